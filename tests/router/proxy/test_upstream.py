"""One connection to a worker, without sockets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shoal.router.proxy.outbox import Outbox
from shoal.router.proxy.pool import Address, Pool
from shoal.router.proxy.response_head import ResponseHead
from shoal.router.proxy.upstream import UpstreamConnection
from shoal.router.settings.listen import UpstreamConfig
from tests.router.proxy.fake_transport import FakeTransport

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"


class Asker:
    """Keeps what it is told; relays from the first bytes on, if it should."""

    def __init__(
        self, connection: UpstreamConnection, relay: Callable[[bytes], None] | None
    ) -> None:
        self.connection = connection
        self._relay = relay
        self.told: list[object] = []

    def on_head(self, head: ResponseHead) -> None:
        self.told.append(head.status)

    def on_body(self, data: bytes) -> None:
        self.told.append(data)
        self.connection.relay = self._relay

    def on_end(self) -> None:
        self.told.append("end")
        self.connection.release()

    def on_lost(self, reason: str) -> None:
        self.told.append("lost")


class Setting:
    """A pool, a connection of it that has been asked something, and who asked."""

    def __init__(self, relay: Callable[[bytes], None] | None = None) -> None:
        self.outbox = Outbox()
        self.pool = Pool(Address("http://127.0.0.1:1"), UpstreamConfig(), self.outbox, tls=None)
        self.connection = UpstreamConnection(self.pool)
        self.transport = FakeTransport()
        self.connection.connection_made(self.transport)
        self.asker = Asker(self.connection, relay)
        self.ask()

    def ask(self) -> None:
        self.connection.send(self.asker, b"request", wants_payload=False)


@pytest.fixture
async def setting() -> Setting:
    return Setting()


async def test_an_answer_in_pieces(setting: Setting) -> None:
    for piece in (HEAD[:30], HEAD[30:], b"hel", b"lo"):
        setting.connection.data_received(piece)
    assert setting.asker.told == [200, b"hel", b"lo", "end"]
    assert setting.pool.num_idle == 1


async def test_a_connection_is_pooled_reading() -> None:
    """The bytes that complete the answer may be those that fill the client."""
    setting = Setting(relay=lambda _: setting.connection.pause())
    setting.connection.data_received(HEAD + b"hel")
    setting.connection.data_received(b"lo")
    assert setting.asker.told[-1] == "end"
    assert setting.pool.num_idle == 1
    assert not setting.transport.is_paused


async def test_pausing_twice_and_resuming_once(setting: Setting) -> None:
    setting.connection.pause()
    setting.connection.pause()
    assert setting.transport.is_paused
    setting.connection.resume()
    assert not setting.transport.is_paused


async def test_a_request_that_was_not_taken_whole_spoils_the_connection(setting: Setting) -> None:
    setting.transport.num_unsent = 1
    setting.connection.data_received(HEAD + b"hello")
    assert setting.asker.told == [200, b"hello", "end"]
    assert setting.pool.num_idle == 0
    assert setting.transport.is_closed


@pytest.mark.parametrize("data", [HEAD + b"hello", b"x"])
async def test_a_worker_that_speaks_before_it_is_asked(setting: Setting, data: bytes) -> None:
    setting.connection.data_received(HEAD + b"hello")
    setting.connection.data_received(data)
    assert setting.transport.is_aborted
    assert setting.pool.take(0.0) is None


async def test_the_same_connection_again(setting: Setting) -> None:
    for _ in range(3):
        setting.connection.data_received(HEAD + b"hello")
        taken = setting.pool.take(0.0)
        assert taken is setting.connection
        setting.ask()
    assert setting.asker.told == [200, b"hello", "end"] * 3


async def test_lost_while_idle_and_while_busy(setting: Setting) -> None:
    setting.connection.data_received(HEAD + b"hello")
    setting.connection.connection_lost(None)
    assert setting.pool.num_idle == 0
    assert "lost" not in setting.asker.told
    other = Setting()
    other.connection.data_received(HEAD + b"he")
    other.connection.connection_lost(None)
    assert other.asker.told == [200, b"he", "lost"]


@pytest.mark.parametrize(
    ("url", "is_good"),
    [
        ("http://127.0.0.1:8000", True),
        ("https://[::1]:8000/prefix/", True),
        ("http://worker", True),
        ("ftp://worker", False),
        ("worker:8000", False),
        ("http://", False),
    ],
)
def test_addresses(url: str, is_good: bool) -> None:
    if is_good:
        assert Address(url).host in ("127.0.0.1", "::1", "worker")
    else:
        with pytest.raises(ValueError, match="URL of a worker"):
            Address(url)


def test_an_address_in_the_request() -> None:
    address = Address("https://user:word@worker.example:8443/a/b/")
    assert address.host_field == b"host: worker.example:8443\r\n"
    assert address.path_prefix == b"/a/b"
    assert (address.host, address.port, address.is_tls) == ("worker.example", 8443, True)
