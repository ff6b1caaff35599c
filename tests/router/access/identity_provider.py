"""An identity provider for tests: keys, tokens signed with them, and a JWKS on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://id.example"
AUDIENCE = "shoal"
NOW = 1_800_000_000.0

RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def public_jwk(key: Any, kid: str | None = None, **more: str) -> dict[str, Any]:
    algorithm: Any = RSAAlgorithm
    if isinstance(key, ec.EllipticCurvePrivateKey):
        algorithm = ECAlgorithm
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        algorithm = OKPAlgorithm
    jwk: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))
    jwk.pop("key_ops", None)
    return jwk | ({} if kid is None else {"kid": kid}) | more


def claims(**changed: Any) -> dict[str, Any]:
    """Good claims; one changed to None is left out."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 600}
    return {name: value for name, value in (good | changed).items() if value is not None}


def token(
    key: Any = RSA_KEY,
    algorithm: str = "RS256",
    *,
    kid: str | None = "one",
    headers: dict[str, Any] | None = None,
    **changed: Any,
) -> bytes:
    headers = (headers or {}) | ({} if kid is None else {"kid": kid})
    return jwt.encode(claims(**changed), key, algorithm, headers=headers).encode()


class Provider:
    """Serves `document`; counts how often."""

    def __init__(self) -> None:
        self.document: Any = {"keys": [public_jwk(RSA_KEY, "one"), public_jwk(EC_KEY, "two")]}
        self.status = 200
        self.num_fetches = 0
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.num_fetches += 1
        body = self.document if isinstance(self.document, bytes) else json.dumps(self.document)
        body = body if isinstance(body, bytes) else body.encode()
        writer.write(
            b"HTTP/1.1 %d X\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            % (self.status, len(body))
            + body
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def running_provider() -> AsyncIterator[Provider]:
    provider = Provider()
    server = await asyncio.start_server(provider.answer, "127.0.0.1", 0)
    async with server:
        provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"
        yield provider
