"""Public keys of an identity provider (JWKS, RFC 7517)."""

from __future__ import annotations


class SigningKeys:
    def __init__(self, url: str) -> None:
        self.url = url

    async def refresh(self) -> None:
        raise NotImplementedError

    async def run(self) -> None:
        raise NotImplementedError
