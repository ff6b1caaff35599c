"""Bearer tokens of an identity provider (JWT, RFC 7519), checked with its published keys.

A good token is remembered by its digest until it expires, so a client that sends it with each
request costs one look-up. Best practices of RFC 8725: the algorithm is ours to choose, never the
token's, and each key is bound to its algorithm, so no public key is ever taken for a secret.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jwt

from shoal.clock import Clock
from shoal.errors import Unauthorized

from ..settings.access import JWTConfig
from ..settings.protection import LimitsConfig
from .jwks import SigningKeys
from .keys import check_name
from .principal import Principal

LEEWAY_S = 30.0
"""Clocks of two machines differ."""
MAX_TOKEN_BYTES = 8192
_MAX_REMEMBERED = 10_000


class SigningKeyUnknown(Unauthorized):
    """401 unless a refresh, which is under way, brings the key that signed the token."""


class TokenVerifier:
    """Checks tokens, and remembers those that were good."""

    def __init__(
        self,
        config: JWTConfig,
        *,
        limits: LimitsConfig | None = None,
        keys: SigningKeys | None = None,
        clock: Clock | None = None,
        max_remembered: int = _MAX_REMEMBERED,
    ) -> None:
        """`keys` are those of a verifier before a reload."""
        self.config = config
        self.keys = keys or SigningKeys(config.jwks_url, config.algorithms, clock=clock)
        self._limits = limits or LimitsConfig()
        self._max_remembered = max_remembered
        self._remembered: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self._generation = self.keys.generation

    def verify(self, token: bytes, digest: bytes, now: float) -> Principal:
        """Whose token it is; `digest` is its SHA-256, `now` Unix time.

        0.5 us for a token seen before, else about 100. Raises Unauthorized.
        """
        if self._generation != self.keys.generation:
            self._generation = self.keys.generation
            self._remembered.clear()  # a key may have been withdrawn
        known = self._remembered.get(digest)
        if known is not None:
            if now >= known[0]:
                del self._remembered[digest]
                raise _refusal("The token has expired.")
            self._remembered.move_to_end(digest)
            return known[1]
        claims = self._check_signature(token)
        ends_at = _check_times(claims, now)
        principal = self._principal(claims)
        self._remembered[digest] = (ends_at, principal)
        if len(self._remembered) > self._max_remembered:
            self._remembered.popitem(last=False)
        return principal

    def _check_signature(self, token: bytes) -> Mapping[str, Any]:
        if len(token) > MAX_TOKEN_BYTES:
            raise _refusal(f"The token is longer than {MAX_TOKEN_BYTES} bytes.")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise _refusal("The bearer token is neither a key nor a JWT.") from None
        algorithm = header.get("alg")
        if algorithm not in self.config.algorithms:
            raise _refusal(f"The token must be signed by {' or '.join(self.config.algorithms)}.")
        if "crit" in header:
            raise _refusal("The token has extensions (crit) that are not understood here.")
        key = self.keys.find(header.get("kid"), algorithm)
        if key is None:
            if self.keys.ask():
                raise SigningKeyUnknown(
                    "The token is signed with a key that is not known yet.", code="invalid_token"
                )
            raise _refusal("The token is signed with a key that the identity provider lacks.")
        try:
            # Times are ours to check: the library has a clock of its own.
            claims: Mapping[str, Any] = jwt.decode(
                token, key, algorithms=[algorithm],
                audience=self.config.audience, issuer=self.config.issuer,
                options={
                    "require": ["exp", "iss", "aud"],
                    "verify_exp": False, "verify_nbf": False, "verify_iat": False,
                },
            )  # fmt: skip
        except jwt.InvalidAudienceError:
            raise _refusal("The token is for another audience.") from None
        except jwt.InvalidIssuerError:
            raise _refusal("The token is of another issuer.") from None
        except jwt.MissingRequiredClaimError as error:
            raise _refusal(f"The token lacks the claim {error.claim!r}.") from None
        except jwt.PyJWTError:
            raise _refusal("The token's signature is wrong.") from None
        return claims

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        tenant = _name_claim(claims, self.config.tenant_claim)
        subject = _name_claim(claims, "sub") if "sub" in claims else tenant
        models = None
        if self.config.models_claim is not None:
            models = _models_claim(claims, self.config.models_claim)
        return Principal(
            key_id=f"jwt:{subject}",  # no subject shares the limits of a key of its name
            tenant=tenant,
            models=models,
            requests_per_minute=self._limits.requests_per_minute,
            tokens_per_minute=self._limits.tokens_per_minute,
            max_parallel_requests=self._limits.max_parallel_requests,
        )


def _check_times(claims: Mapping[str, Any], now: float) -> float:
    """When the token ends, in Unix time with the leeway. Raises Unauthorized outside its time."""
    ends_at = _number_claim(claims, "exp") + LEEWAY_S
    if now >= ends_at:
        raise _refusal("The token has expired.")
    if "nbf" in claims and now < _number_claim(claims, "nbf") - LEEWAY_S:
        raise _refusal("The token is not valid yet.")
    return ends_at


def _number_claim(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refusal(f"The token's claim {name!r} is no number.")
    return float(value)


def _name_claim(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str):
        raise _refusal(f"The token lacks the claim {name!r}, or it is no text.")
    try:
        check_name(f"The token's claim {name!r}", value)
    except ValueError as error:
        raise _refusal(f"{error}.") from None
    return value


def _models_claim(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    """Raises Unauthorized when the claim is missing: that must not open all models."""
    value = claims.get(name)
    if not isinstance(value, list) or not all(isinstance(model, str) for model in value):
        raise _refusal(f"The token lacks the claim {name!r}, or it is no list of models.")
    return frozenset(value)


def _refusal(message: str) -> Unauthorized:
    return Unauthorized(message, code="invalid_token")
