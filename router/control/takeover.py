"""One router hands its listening sockets to the next: a Unix socket, and SCM_RIGHTS.

The socket lies in a folder that only its user can enter, both sides check the other's user id
(SO_PEERCRED), and the name is that of the address: at most one router serves an address. The talk:

    new: Request            old: Offer + the descriptors (API sockets, then the admin API's)
    new: Ready              (its processes accept on them)
    old: Done               (it has begun to drain, and ends by itself)

Until `Ready` nothing has changed for the old router; a successor that fails is forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from shoal.errors import ShoalError
from shoal.runtime_home import runtime_home

VERSION = 1
MAX_SOCKETS = 200
"""SCM_RIGHTS takes 253 at most."""
_MAX_MESSAGE_BYTES = 4096
_PEER_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: <sys/socket.h> struct ucred
_log = structlog.get_logger(__name__)


class Request(msgspec.Struct, tag=True):
    """What the new router begins with."""

    pid: int
    version: int = VERSION


class Offer(msgspec.Struct, tag=True):
    """Comes with the descriptors."""

    pid: int
    num_listeners: int
    version: int = VERSION


class Ready(msgspec.Struct, tag=True):
    """The new router serves."""


class Done(msgspec.Struct, tag=True):
    """The old router drains."""


class Refused(msgspec.Struct, tag=True):
    """Why the old router does not hand over."""

    reason: str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Request | Offer | Ready | Done | Refused).decode


class TakeoverFailed(ShoalError):
    """The other router did not hand over; it goes on."""


def socket_path(host: str, port: int) -> Path:
    """Of the router that serves an address."""
    return runtime_home() / f"router-{host.replace('/', '_')}-{port}.sock"


@dataclass(slots=True)
class Handover:
    """The sockets of a router that is about to be replaced; `finish` or `close`."""

    listeners: list[socket.socket]
    admin: socket.socket
    pid: int
    _connection: socket.socket

    def finish(self, timeout_s: float = 30.0) -> None:
        """We serve: have the other one drain. Raises TakeoverFailed when it does not say so."""
        try:
            self._connection.settimeout(timeout_s)
            self._connection.send(_encode(Ready()))
            answer = _receive(self._connection.recv(_MAX_MESSAGE_BYTES))
        except OSError as error:
            raise TakeoverFailed(
                f"The router before this one (pid {self.pid}): {error}."
            ) from error
        finally:
            self._connection.close()
        if not isinstance(answer, Done):
            raise TakeoverFailed(f"The router before this one (pid {self.pid}) did not end.")

    def close(self) -> None:
        """Give up; the other router goes on."""
        for sock in (self._connection, self.admin, *self.listeners):
            sock.close()


def is_served(path: Path) -> bool:
    """Whether a router listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(1.0)
        try:
            sock.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True


def take_over(path: Path, timeout_s: float = 10.0) -> Handover:
    """Ask the router at `path` for its sockets. Raises TakeoverFailed."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    received: list[int] = []
    try:
        connection.settimeout(timeout_s)
        connection.connect(os.fspath(path))
        _check_peer(connection)
        connection.send(_encode(Request(os.getpid())))
        data, received, flags, _ = socket.recv_fds(connection, _MAX_MESSAGE_BYTES, MAX_SOCKETS + 1)
        offer = _receive(data)
        if isinstance(offer, Refused):
            raise TakeoverFailed(f"The running router refuses: {offer.reason}")
        if (
            not isinstance(offer, Offer)
            or offer.version != VERSION
            or flags & socket.MSG_CTRUNC
            or len(received) != offer.num_listeners + 1
        ):
            raise TakeoverFailed("The running router is of another version; restart it instead.")
        sockets = [socket.socket(fileno=fd) for fd in received]
        received = []
        for sock in sockets:
            sock.setblocking(False)
        return Handover(sockets[:-1], sockets[-1], offer.pid, connection)
    except OSError as error:
        connection.close()
        reason = {
            errno.ENOENT: "no router of this user serves that address",
            errno.ECONNREFUSED: "no router of this user serves that address",
        }.get(error.errno or 0, str(error))
        raise TakeoverFailed(f"--takeover: {reason}.") from error
    except BaseException:
        connection.close()
        raise
    finally:
        for fd in received:
            os.close(fd)


class TakeoverServer:
    """The old router's side: listens until closed, for one successor at a time."""

    def __init__(
        self,
        path: Path,
        listeners: list[socket.socket],
        admin: socket.socket,
        on_successor: Callable[[], None],
        *,
        ready_timeout_s: float = 120.0,
    ) -> None:
        """`on_successor` is called once, when another router serves; it is to start draining.

        Takes the place of what lies at `path`. Raises OSError.
        """
        self._path = path
        self._fds = [*(sock.fileno() for sock in listeners), admin.fileno()]
        self._num_listeners = len(listeners)
        self._on_successor = on_successor
        self._ready_timeout_s = ready_timeout_s
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        self._listener.bind(os.fspath(temporary))
        self._listener.listen(4)
        self._listener.setblocking(False)
        self._inode = temporary.stat().st_ino
        temporary.rename(path)  # at one stroke: there is always a socket there

    async def run(self) -> None:
        """Serve successors until one has taken over, or cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            connection = await _accept(loop, self._listener)
            with connection:
                try:
                    if await self._hand_over(connection):
                        return
                except (OSError, TimeoutError, msgspec.MsgspecError, TakeoverFailed) as error:
                    _log.warning("takeover.failed", error=str(error) or "timeout")

    def close(self) -> None:
        """Removes the socket, unless a successor's is there by now."""
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    async def _hand_over(self, connection: socket.socket) -> bool:
        _check_peer(connection)
        connection.setblocking(False)
        async with asyncio.timeout(5.0):
            data = await _read(connection)
        if not data:
            return False  # somebody looked whether we are here
        request = _decode(data)
        if not isinstance(request, Request) or request.version != VERSION:
            connection.send(_encode(Refused("it speaks another version of the handover")))
            return False
        if len(self._fds) > MAX_SOCKETS:
            connection.send(_encode(Refused("it has too many sockets")))
            return False
        _log.info("takeover.begins", successor=request.pid)
        offer = Offer(os.getpid(), self._num_listeners)
        socket.send_fds(connection, [_encode(offer)], self._fds)
        async with asyncio.timeout(self._ready_timeout_s):
            answer = _receive(await _read(connection))
        if not isinstance(answer, Ready):
            raise TakeoverFailed("the successor gave up")
        _log.info("takeover.done", successor=request.pid)
        self._on_successor()
        connection.send(_encode(Done()))
        return True


def _receive(data: bytes) -> Request | Offer | Ready | Done | Refused | None:
    return _decode(data) if data else None


def _check_peer(connection: socket.socket) -> None:
    """Only our own user: it could end us anyway."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    _, uid, _ = _PEER_CREDENTIALS.unpack(raw)
    if uid != os.getuid():
        raise TakeoverFailed(f"the other end belongs to user {uid}, not to us ({os.getuid()})")


async def _accept(loop: asyncio.AbstractEventLoop, listener: socket.socket) -> socket.socket:
    while True:
        try:
            return listener.accept()[0]
        except BlockingIOError:
            await _readable(loop, listener)


async def _read(sock: socket.socket) -> bytes:
    """One message; empty at the end."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return sock.recv(_MAX_MESSAGE_BYTES)
        except BlockingIOError:
            await _readable(loop, sock)


async def _readable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """uvloop's own `sock_*` calls take stream sockets only."""
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)
