"""Public keys of an identity provider (JWKS, RFC 7517): fetched ahead of need, by one task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import httpx
import jwt
import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from shoal.clock import Clock, MonotonicClock

from ..settings.access import is_loopback_url

REFRESH_S = 300.0
FORCED_INTERVAL_S = 10.0
"""Anybody can send a token that names an unknown key: that causes one fetch in so long at most."""
FETCH_TIMEOUT_S = 5.0
_FIRST_RETRY_S = 1.0
_MAX_RETRY_S = 30.0
_MAX_BYTES = 1024 * 1024
_MAX_KEYS = 100
_MIN_RSA_BITS = 2048
_KEY_TYPES = {
    "RS": ("RSA", None),
    "PS": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", None),
}


async def fetch_jwks(url: str) -> bytes:
    """The document at `url`. Raises httpx.HTTPError or ValueError when there is none."""
    # A proxy of the environment is for the world, not for this machine.
    async with (
        httpx.AsyncClient(timeout=FETCH_TIMEOUT_S, trust_env=not is_loopback_url(url)) as client,
        client.stream("GET", url) as response,
    ):
        response.raise_for_status()
        content = b""
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > _MAX_BYTES:
                raise ValueError(f"longer than {_MAX_BYTES} bytes")
        return content


class SigningKeys:
    """The keys as last fetched; those stay in use while a fetch fails.

    `run()` is the only place that fetches; everything else asks it to.
    """

    def __init__(
        self,
        url: str,
        algorithms: Iterable[str],
        *,
        fetch: Callable[[str], Awaitable[bytes]] = fetch_jwks,
        clock: Clock | None = None,
    ) -> None:
        self.generation = 0
        """Changes when the keys do: what was verified with earlier ones may hold no more."""
        self._url = url
        self._algorithms = tuple(algorithms)
        self._fetch = fetch
        self._clock = clock or MonotonicClock()
        self._document: Any = None
        self._keys: dict[tuple[str | int, str], jwt.PyJWK] = {}
        self._wanted = asyncio.Event()
        self._fetched = asyncio.Event()
        self._is_fetching = False
        self._forced_at = float("-inf")

    def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key a token names; one that names none is checked with the only key there is."""
        if kid is not None:
            return self._keys.get((kid, algorithm))
        fitting = [key for (_, fits), key in self._keys.items() if fits == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    def ask(self) -> bool:
        """Have the keys fetched soon, unless that was done a moment ago; True: it will be."""
        now = self._clock.now()
        if not self._is_pending() and now - self._forced_at >= FORCED_INTERVAL_S:
            self._forced_at = now
            self._wanted.set()
        return self._is_pending()

    async def refresh(self) -> None:
        """Waits for the fetch that is under way or asked for; returns at once when there is none.

        Never longer than a fetch may take.
        """
        if self._is_pending():
            with suppress(TimeoutError):
                async with asyncio.timeout(FETCH_TIMEOUT_S + 1):
                    await self._fetched.wait()

    async def run(self) -> None:
        """Fetch at once, then every five minutes and when asked, until cancelled."""
        retry_s = _FIRST_RETRY_S
        while True:
            if await self._fetch_once():
                wait_s, retry_s = REFRESH_S, _FIRST_RETRY_S
            else:
                wait_s, retry_s = retry_s, min(2 * retry_s, _MAX_RETRY_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wanted.wait()

    def _is_pending(self) -> bool:
        return self._is_fetching or self._wanted.is_set()

    async def _fetch_once(self) -> bool:
        self._wanted.clear()
        self._is_fetching = True
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                self.replace(msgspec.json.decode(await self._fetch(self._url)))
        except (httpx.HTTPError, TimeoutError, OSError, ValueError) as error:
            structlog.get_logger(__name__).warning(
                "jwks.fetch_failed",
                url=self._url,
                error=str(error) or type(error).__name__,
                keys_in_use=len(self._keys),
            )
            return False
        finally:
            self._is_fetching = False
            self._fetched.set()
            self._fetched = asyncio.Event()
        return True

    def replace(self, document: Any) -> None:
        """Take the keys of a JWKS in place of those before.

        Raises ValueError when it has none that can be used; then the old ones stay.
        """
        if document == self._document:
            return
        listed = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(listed, list):
            raise ValueError('not a JWKS: no list of "keys"')
        keys: dict[tuple[str | int, str], jwt.PyJWK] = {}
        for number, jwk in enumerate(listed[:_MAX_KEYS]):
            for algorithm in self._algorithms:
                key = _usable_key(jwk, algorithm)
                if key is not None:
                    # A number is no token's `kid`: keys without a name do not hide each other.
                    keys[key.key_id or number, algorithm] = key
        if not keys:
            raise ValueError(f"no key for {', '.join(self._algorithms)} in the JWKS")
        self._document = document
        self._keys = keys
        self.generation += 1


def _usable_key(jwk: Any, algorithm: str) -> jwt.PyJWK | None:
    """The key, if it is made for signatures by `algorithm` and is strong enough."""
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    if jwk.get("alg", algorithm) != algorithm:
        return None
    key_type, curve = _KEY_TYPES.get(algorithm) or _KEY_TYPES[algorithm[:2]]
    if jwk.get("kty") != key_type or (curve is not None and jwk.get("crv") != curve):
        return None
    try:
        key = jwt.PyJWK(jwk, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < _MIN_RSA_BITS:
        return None
    return key
