"""From two header values to a principal: about 2 us, without a wait.

Nothing here keeps a key or a token, only digests of them.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from shoal.errors import Unauthorized

from ..settings.access import AuthConfig, JWTConfig
from ..settings.protection import LimitsConfig
from .keys import KeyStore
from .principal import ANONYMOUS, Principal

if TYPE_CHECKING:
    from .jwks import SigningKeys
    from .jwt import TokenVerifier


class Authenticator:
    """One per data-plane process and configuration; a reload makes a new one.

    `run()` must be running as a task for tokens (JWT) to be accepted; without them it ends at once.
    """

    def __init__(
        self,
        keys: KeyStore | None = None,
        tokens: TokenVerifier | None = None,
        *,
        anonymous: Principal = ANONYMOUS,
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._anonymous = anonymous
        self._is_open = keys is None and tokens is None

    @classmethod
    def from_config(
        cls,
        auth: AuthConfig,
        keys: bytes,
        *,
        limits: LimitsConfig | None = None,
        previous: Authenticator | None = None,
    ) -> Authenticator:
        """`keys` is the content of `auth.keys_file`; raises ConfigError when it is wrong.

        Signing keys of `previous`, the one before a reload, are taken over, so that no request has
        to wait for a fetch. Its `run` must be cancelled, and the new one's started.
        """
        defaults = limits or LimitsConfig()
        store = None
        if auth.keys_file is not None:
            store = KeyStore.from_yaml(keys, limits=defaults)
        verifier = None
        if auth.jwt is not None:
            from .jwt import TokenVerifier

            verifier = TokenVerifier(auth.jwt, limits=defaults, keys=_keys_of(previous, auth.jwt))
        anonymous = ANONYMOUS._replace(
            requests_per_minute=defaults.requests_per_minute,
            tokens_per_minute=defaults.tokens_per_minute,
            max_parallel_requests=defaults.max_parallel_requests,
        )
        return cls(store, verifier, anonymous=anonymous)

    def authenticate(
        self, authorization: bytes | None, x_api_key: bytes | None, now: float
    ) -> Principal:
        """Whose request this is.

        `authorization` and `x_api_key` are values of the headers of these names, `now` is Unix
        time in seconds. Raises Unauthorized (401), and its subclass `SigningKeyUnknown` when
        `await refresh_signing_keys()` and one more try may help.
        """
        if self._is_open:
            return self._anonymous
        if authorization is not None and authorization[:7].lower() == b"bearer ":
            credential = authorization[7:].strip()
        elif x_api_key is not None:
            credential = x_api_key.strip()
        elif authorization is not None:
            raise Unauthorized("The Authorization header must be: Bearer KEY.")
        else:
            raise Unauthorized("No API key. Send the header Authorization: Bearer KEY.")
        digest = sha256(credential).digest()
        if self._keys is not None:
            principal = self._keys.find(digest)
            if principal is not None:
                return principal
        if self._tokens is not None and credential.count(b".") == 2:
            return self._tokens.verify(credential, digest, now)
        raise Unauthorized("This API key is not known here.")

    async def refresh_signing_keys(self) -> None:
        """After `SigningKeyUnknown`: wait for the identity provider's keys; at most a few seconds.

        Concurrent calls share one fetch, and there is at most one in ten seconds.
        """
        if self._tokens is not None:
            await self._tokens.keys.refresh()

    async def run(self) -> None:
        """Keep the signing keys fresh until cancelled; ends at once when there are none to keep."""
        if self._tokens is not None:
            await self._tokens.keys.run()


def _keys_of(previous: Authenticator | None, config: JWTConfig) -> SigningKeys | None:
    before = None if previous is None else previous._tokens
    if before is None or before.config.jwks_url != config.jwks_url:
        return None
    return before.keys if before.config.algorithms == config.algorithms else None
