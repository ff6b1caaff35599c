"""The program of a data-plane process; started by the state process (`control/children.py`)."""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket

import uvloop

from shoal.cache_home import cache_home
from shoal.die_with_parent import die_with
from shoal.log import configure_logging

from ..compiled.finder import use_compiled


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m shoal.router.proxy")
    parser.add_argument("--link", type=int, required=True)
    parser.add_argument("--listen", type=int, action="append", required=True)
    parser.add_argument("--process", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--log-format", default="console", choices=("console", "json"))
    parser.add_argument("--log-level", default="info")
    args = parser.parse_args()
    die_with(args.parent)
    configure_logging(args.log_format, level=args.log_level)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    link = socket.socket(fileno=args.link)
    listeners = [socket.socket(fileno=number) for number in args.listen]
    use_compiled(cache_home())
    uvloop.run(_serve(link, listeners, args.process))


async def _serve(link: socket.socket, listeners: list[socket.socket], process: int) -> None:
    from .data_plane import DataPlane  # compiled, if it is

    plane = DataPlane(process)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, plane.drain)
    try:
        await plane.start(link, listeners)
        await plane.wait()
    finally:
        await plane.stop()


if __name__ == "__main__":
    main()
