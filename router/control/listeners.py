"""Listening sockets of the API: one for each data-plane process, all on one address.

SO_REUSEPORT lets the kernel spread connections over them. It would also let a second router of the
same user join in by mistake, so the address is first tried without it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from shoal.errors import ConfigError

BACKLOG = 4096


def bind(host: str, port: int, count: int) -> list[socket.socket]:
    """`count` sockets on one address; port 0 takes a free one. Raises ConfigError."""
    family, address = _resolve(host, port)
    try:
        if port:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not for TIME_WAIT
                probe.bind(address)
        sockets = [_listen(family, address)]
    except OSError as error:
        raise ConfigError(_reason(host, port, error)) from error
    return extended(sockets, count)


def extended(sockets: Sequence[socket.socket], count: int) -> list[socket.socket]:
    """`sockets` and as many more on their address as `count` wants. Raises ConfigError."""
    found = [*sockets]
    address = found[0].getsockname()
    try:
        while len(found) < count:
            found.append(_listen(found[0].family, address[:2]))
    except OSError as error:
        close(found[len(sockets) :])
        raise ConfigError(_reason(address[0], address[1], error)) from error
    return found


def shared_out(sockets: Sequence[socket.socket], count: int) -> list[list[socket.socket]]:
    """Which of `count` processes accepts on which; all of them are served."""
    return [[*sockets[index::count]] for index in range(count)]


def bind_admin(host: str, port: int) -> socket.socket:
    """The admin API's. Raises ConfigError."""
    family, address = _resolve(host, port)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(128)
    except OSError as error:
        sock.close()
        raise ConfigError(f"{_reason(host, port, error)} (the admin API: --admin-port)") from error
    return sock


def close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ConfigError(f"cannot listen on {host!r}: no such host ({error})") from error
    return family, (str(address[0]), port)


def _listen(family: int, address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _reason(host: str, port: int, error: OSError) -> str:
    reason = {
        errno.EADDRINUSE: "another process uses that port; stop it, take another port, or, when it "
        "is a router to be replaced, add --takeover",
        errno.EACCES: "ports below 1024 need privileges; take a higher one",
        errno.EADDRNOTAVAIL: "this machine does not have that address",
    }.get(error.errno or 0, str(error))
    return f"cannot listen on {host}:{port}: {reason}"
