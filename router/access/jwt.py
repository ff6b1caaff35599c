"""Bearer tokens of an identity provider (JWT, RFC 7519), checked with its published keys."""

from __future__ import annotations

from shoal.errors import Unauthorized

from ..settings.access import JWTConfig
from ..settings.protection import LimitsConfig
from .jwks import SigningKeys
from .principal import Principal


class SigningKeyUnknown(Unauthorized):
    """401, for now: the token's `kid` is not among the keys; a refresh may bring it."""


class TokenVerifier:
    """Checks tokens, remembers which were good until they expire."""

    def __init__(self, config: JWTConfig, *, limits: LimitsConfig | None = None) -> None:
        self.keys = SigningKeys(config.jwks_url)
        self._config = config
        self._limits = limits or LimitsConfig()

    def verify(self, token: bytes, digest: bytes, now: float) -> Principal:
        """`digest` is the token's SHA-256, `now` Unix time. Raises Unauthorized."""
        raise NotImplementedError
