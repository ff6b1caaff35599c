"""The handover socket itself; whole takeovers are in `test_run.py`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from shoal.errors import ConfigError
from shoal.router.control import listeners, takeover
from shoal.router.control.takeover import TakeoverFailed, TakeoverServer, socket_path


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    found = listeners.bind("127.0.0.1", 0, 3)
    yield found
    listeners.close(found)


async def test_sockets_go_over_and_the_end_is_told(sockets: list[socket.socket]) -> None:
    path = socket_path("127.0.0.1", 1)
    succeeded: list[bool] = []
    server = TakeoverServer(path, sockets[:2], sockets[2], lambda: succeeded.append(True))
    serving = asyncio.create_task(server.run())
    assert await asyncio.to_thread(takeover.is_served, path)
    handover = await asyncio.to_thread(takeover.take_over, path)
    names = [sock.getsockname() for sock in [*handover.listeners, handover.admin]]
    assert names == [sock.getsockname() for sock in sockets]
    assert handover.pid == os.getpid()
    assert not succeeded
    await asyncio.to_thread(handover.finish)
    await serving
    assert succeeded
    server.close()
    assert not path.exists()
    handover.close()


async def test_a_successor_that_gives_up_is_forgotten(sockets: list[socket.socket]) -> None:
    path = socket_path("h", 2)
    server = TakeoverServer(path, sockets[:2], sockets[2], lambda: pytest.fail("it did not"))
    serving = asyncio.create_task(server.run())
    (await asyncio.to_thread(takeover.take_over, path)).close()
    (await asyncio.to_thread(takeover.take_over, path)).close()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    server.close()


async def test_another_version_is_refused(
    sockets: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = socket_path("h", 3)
    server = TakeoverServer(path, sockets[:2], sockets[2], lambda: pytest.fail("it did not"))
    serving = asyncio.create_task(server.run())

    def other_version() -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(5)
            sock.connect(os.fspath(path))
            sock.send(msgspec.msgpack.encode(takeover.Request(1, version=99)))
            return sock.recv(1000)

    assert b"another version" in await asyncio.to_thread(other_version)
    with monkeypatch.context() as patch:
        patch.setattr(takeover.os, "getuid", lambda: 12345)
        with pytest.raises(TakeoverFailed, match="belongs to user"):
            await asyncio.to_thread(takeover.take_over, path)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    server.close()


def test_a_socket_that_nobody_listens_at_is_no_router(sockets: list[socket.socket]) -> None:
    path = socket_path("h", 4)
    assert not takeover.is_served(path)
    server = TakeoverServer(path, sockets[:2], sockets[2], lambda: None)
    assert takeover.is_served(path)
    server._listener.close()  # as a crash does
    assert path.exists()
    assert not takeover.is_served(path)
    again = TakeoverServer(path, sockets[:2], sockets[2], lambda: None)
    assert takeover.is_served(path)
    server.close()  # not its own any more
    assert path.exists()
    again.close()


def test_the_folder_must_be_ours_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert socket_path("a/b", 1) == tmp_path / "shoal" / "router-a_b-1.sock"
    assert (tmp_path / "shoal").stat().st_mode & 0o777 == 0o700
    (tmp_path / "shoal").chmod(0o755)
    with pytest.raises(ConfigError, match="of this user alone"):
        socket_path("a", 1)
    (tmp_path / "shoal").rmdir()
    (tmp_path / "shoal").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="of this user alone"):
        socket_path("a", 1)
