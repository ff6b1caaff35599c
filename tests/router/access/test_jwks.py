from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from hashlib import sha256

import msgspec
import pytest

from shoal.clock import VirtualClock
from shoal.errors import Unauthorized
from shoal.router.access.authenticator import Authenticator
from shoal.router.access.jwks import FORCED_INTERVAL_S, SigningKeys, fetch_jwks
from shoal.router.access.jwt import SigningKeyUnknown, TokenVerifier
from shoal.router.settings.access import AuthConfig, JWTConfig
from tests.router.access.identity_provider import (
    AUDIENCE,
    ISSUER,
    NOW,
    OTHER_RSA_KEY,
    Provider,
    public_jwk,
    running_provider,
    token,
)


@asynccontextmanager
async def running(run: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(run())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with running_provider() as provider:
        yield provider


def config(provider: Provider) -> JWTConfig:
    return JWTConfig(jwks_url=provider.url, issuer=ISSUER, audience=AUDIENCE)


def bearer(signed: bytes) -> bytes:
    return b"Bearer " + signed


async def test_tokens_are_accepted_once_the_keys_are_there(provider: Provider) -> None:
    authenticator = Authenticator.from_config(AuthConfig(jwt=config(provider)), b"")
    async with running(authenticator.run):
        with pytest.raises(SigningKeyUnknown):
            authenticator.authenticate(bearer(token()), None, NOW)
        await authenticator.refresh_signing_keys()
        assert authenticator.authenticate(bearer(token()), None, NOW).tenant == "alice"
        assert authenticator.authenticate(None, token(), NOW).tenant == "alice"
        with pytest.raises(Unauthorized):
            authenticator.authenticate(b"Bearer no-token", None, NOW)
    assert provider.num_fetches == 1


async def test_a_new_key_is_found_by_the_first_token_it_signed(provider: Provider) -> None:
    clock = VirtualClock()
    verifier = TokenVerifier(config(provider), clock=clock)
    authenticator = Authenticator(tokens=verifier)
    new = bearer(token(OTHER_RSA_KEY, kid="new"))
    async with running(authenticator.run):
        await authenticator.refresh_signing_keys()
        provider.document["keys"].append(public_jwk(OTHER_RSA_KEY, "new"))
        with pytest.raises(SigningKeyUnknown):
            authenticator.authenticate(new, None, NOW)
        await authenticator.refresh_signing_keys()
        assert authenticator.authenticate(new, None, NOW).tenant == "alice"
        assert authenticator.authenticate(bearer(token()), None, NOW).tenant == "alice"


async def test_unknown_keys_cause_one_fetch_in_ten_seconds(provider: Provider) -> None:
    clock = VirtualClock()
    verifier = TokenVerifier(config(provider), clock=clock)
    authenticator = Authenticator(tokens=verifier)

    async def send(kid: str) -> type[Unauthorized]:
        with pytest.raises(Unauthorized) as raised:
            authenticator.authenticate(bearer(token(OTHER_RSA_KEY, kid=kid)), None, NOW)
        if raised.type is SigningKeyUnknown:
            await authenticator.refresh_signing_keys()
        return raised.type

    async with running(authenticator.run):
        await authenticator.refresh_signing_keys()
        first = await asyncio.gather(*(send(f"many-{number}") for number in range(5)))
        assert set(first) == {SigningKeyUnknown}
        assert provider.num_fetches == 2
        clock.advance(FORCED_INTERVAL_S - 0.1)
        assert await send("soon") is Unauthorized
        clock.advance(0.1)
        assert await send("later") is SigningKeyUnknown
        assert provider.num_fetches == 3


@pytest.mark.parametrize(
    "document", [b"<html>", b"[]", b'{"keys": {}}', b'{"keys": []}', {"keys": [{"kty": "oct"}]}]
)
async def test_old_keys_stay_when_the_new_ones_are_none(
    provider: Provider, document: object
) -> None:
    keys = SigningKeys(provider.url, ("RS256",))
    async with running(keys.run):
        await keys.refresh()
        generation = keys.generation
        provider.document = document
        assert keys.ask()
        await keys.refresh()
        assert provider.num_fetches == 2
        assert keys.find("one", "RS256") is not None
        assert keys.generation == generation


async def test_old_keys_stay_while_the_provider_is_down(provider: Provider) -> None:
    keys = SigningKeys(provider.url, ("RS256",))
    async with running(keys.run):
        await keys.refresh()
        provider.status = 500
        provider.document = {"keys": [public_jwk(OTHER_RSA_KEY, "evil")]}
        assert keys.ask()
        await keys.refresh()
        assert keys.find("one", "RS256") is not None
        assert keys.find("evil", "RS256") is None


async def test_the_same_keys_again_change_nothing(provider: Provider) -> None:
    keys = SigningKeys(provider.url, ("RS256",))
    async with running(keys.run):
        await keys.refresh()
        keys.ask()
        await keys.refresh()
    assert provider.num_fetches == 2
    assert keys.generation == 1


async def test_a_document_without_end_is_not_read_to_it(provider: Provider) -> None:
    provider.document = b" " * (1024 * 1024 + 1)
    with pytest.raises(ValueError, match="longer"):
        await fetch_jwks(provider.url)


async def test_a_reload_takes_the_keys_over(provider: Provider) -> None:
    before = Authenticator.from_config(AuthConfig(jwt=config(provider)), b"")
    async with running(before.run):
        await before.refresh_signing_keys()
    auth = AuthConfig(jwt=msgspec.structs.replace(config(provider), tenant_claim="org"))
    after = Authenticator.from_config(auth, b"", previous=before)
    assert after.authenticate(bearer(token(org="sales")), None, NOW).tenant == "sales"
    elsewhere = msgspec.structs.replace(config(provider), jwks_url="https://id.example/jwks")
    other = Authenticator.from_config(AuthConfig(jwt=elsewhere), b"", previous=before)
    with pytest.raises(SigningKeyUnknown):
        other.authenticate(bearer(token()), None, NOW)


async def test_waiting_without_anything_to_wait_for_ends_at_once() -> None:
    await asyncio.wait_for(SigningKeys("https://id.example", ("RS256",)).refresh(), 10)


async def test_a_key_and_a_token_live_side_by_side(provider: Provider) -> None:
    content = f"- {{name: team-a, sha256: {sha256(b'a.b.c').hexdigest()}}}".encode()
    auth = AuthConfig(keys_file="keys.yaml", jwt=config(provider))
    authenticator = Authenticator.from_config(auth, content)
    async with running(authenticator.run):
        await authenticator.refresh_signing_keys()
        assert authenticator.authenticate(b"Bearer a.b.c", None, NOW).key_id == "team-a"
        assert authenticator.authenticate(bearer(token()), None, NOW).key_id == "jwt:alice"
