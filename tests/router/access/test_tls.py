from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from shoal.errors import ConfigError
from shoal.router.access.tls import ReloadableContext, client_context, server_context
from shoal.router.settings.listen import TLSConfig, UpstreamConfig
from tests.router.access.certificates import Authority, Pair


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "theirs")


def server(pair: Pair, client_ca: str | None = None) -> ReloadableContext:
    return server_context(
        TLSConfig(certificate=pair.certificate, key=pair.key, client_ca=client_ca)
    )


def client(ca: str, pair: Pair | None = None) -> ReloadableContext:
    shown = (pair.certificate, pair.key) if pair else (None, None)
    return client_context(UpstreamConfig(ca=ca, client_certificate=shown[0], client_key=shown[1]))


@asynccontextmanager
async def listening(context: ssl.SSLContext) -> AsyncIterator[int]:
    """Greets whoever gets through the handshake."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        writer.close()
        try:
            await writer.wait_closed()
        except (ssl.SSLError, ConnectionError):
            return

    listener = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    async with listener:
        yield listener.sockets[0].getsockname()[1]


async def handshake(port: int, context: ssl.SSLContext) -> dict[str, Any]:
    """Subject of the server's certificate. Raises ssl.SSLError or ConnectionError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        if await reader.read() != b"hello\n":
            raise ConnectionResetError
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        certificate = tls.getpeercert()
        assert certificate
        subject: Any = certificate["subject"]
        return {name: value for ((name, value),) in subject} | {
            "version": tls.version(),
            "alpn": tls.selected_alpn_protocol(),
        }
    finally:
        writer.close()


def move(source: str, target: str) -> None:
    Path(source).replace(target)


REFUSED = (ssl.SSLError, ConnectionError)


async def test_a_handshake(ours: Authority) -> None:
    async with listening(server(ours.issue("router"))) as port:
        seen = await handshake(port, client(ours.ca))
    assert seen == {"commonName": "router", "version": "TLSv1.3", "alpn": "http/1.1"}


def test_a_handshake_on_uvloop(ours: Authority) -> None:
    context = server(ours.issue("router"), client_ca=ours.ca)

    async def meet() -> None:
        async with listening(context) as port:
            assert await handshake(port, client(ours.ca, ours.issue("client")))
            with pytest.raises(REFUSED):
                await handshake(port, client(ours.ca))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(meet())


async def test_a_worker_of_another_authority_is_refused(ours: Authority, theirs: Authority) -> None:
    async with listening(server(theirs.issue("worker"))) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await handshake(port, client(ours.ca))
        with pytest.raises(ssl.SSLCertVerificationError):
            await handshake(port, client_context(UpstreamConfig()))


@pytest.mark.parametrize(
    ("version", "is_allowed"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_versions(ours: Authority, version: ssl.TLSVersion, is_allowed: bool) -> None:
    old = ssl.create_default_context(cafile=ours.ca)
    old.minimum_version = old.maximum_version = version
    old.set_ciphers("ALL:@SECLEVEL=0")
    async with listening(server(ours.issue("router"))) as port:
        if is_allowed:
            assert (await handshake(port, old))["version"] == "TLSv1.2"
        else:
            with pytest.raises(REFUSED):
                await handshake(port, old)


async def test_mutual_tls(ours: Authority, theirs: Authority) -> None:
    context = server(ours.issue("router"), client_ca=ours.ca)
    async with listening(context) as port:
        assert await handshake(port, client(ours.ca, ours.issue("client")))
        with pytest.raises(REFUSED):
            await handshake(port, client(ours.ca))
        with pytest.raises(REFUSED):
            await handshake(port, client(ours.ca, theirs.issue("client")))


async def test_a_reload_takes_the_new_certificate(ours: Authority) -> None:
    pair = ours.issue("router")
    context = server(pair)
    async with listening(context) as port:
        renewed = ours.issue("renewed")
        move(renewed.certificate, pair.certificate)
        move(renewed.key, pair.key)
        assert (await handshake(port, client(ours.ca)))["commonName"] == "router"
        context.reload()
        assert (await handshake(port, client(ours.ca)))["commonName"] == "renewed"


async def test_a_reload_forgets_the_old_client_authority(
    ours: Authority, theirs: Authority
) -> None:
    context = server(ours.issue("router"), client_ca=ours.ca)
    shown = client(ours.ca, ours.issue("client"))
    async with listening(context) as port:
        await handshake(port, shown)
        move(theirs.ca, ours.ca)
        context.reload()
        with pytest.raises(REFUSED):
            await handshake(port, shown)


async def test_a_reload_that_fails_changes_nothing(ours: Authority) -> None:
    pair = ours.issue("router")
    context = server(pair)
    move(pair.key, pair.certificate)
    with pytest.raises(ConfigError):
        context.reload()
    async with listening(context) as port:
        assert (await handshake(port, client(ours.ca)))["commonName"] == "router"


def test_what_is_wrong_is_named(ours: Authority, tmp_path: Path) -> None:
    good, other = ours.issue("good"), ours.issue("other")
    secret = ours.issue("secret", password=b"secret")
    missing = str(tmp_path / "none.pem")
    with pytest.raises(ConfigError, match=r"none\.pem"):
        server(Pair(missing, good.key))
    with pytest.raises(ConfigError, match=r"other\.key"):
        server(Pair(good.certificate, other.key))
    with pytest.raises(ConfigError, match="password"):
        server(secret)
    with pytest.raises(ConfigError, match=r"CA file .*none\.pem"):
        server(good, client_ca=missing)
    with pytest.raises(ConfigError, match=r"CA file .*good\.key"):
        client(good.key)
