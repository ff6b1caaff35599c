"""Stands for a data-plane process: keeps the contract of `router/control/children.py`, and speaks
lines over TCP in place of HTTP. `MISBEHAVE` in the environment makes it a bad one.

Lines: `pid`, `process`, `config`, `keys`, `fleet`, `heard` (PeerDeltas), `tell JSON` (a PeerDelta
of ours), `stream` (answers "begin", then "end" after the next line), `crash`, `hang`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import time
from typing import Any

import msgspec

from shoal.die_with_parent import die_with
from shoal.frames import FrameProtocol, with_length
from shoal.router.messages import (
    Ask,
    Configure,
    Drain,
    FleetUpdate,
    FromState,
    PeerDelta,
    Ready,
    Report,
)

encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(FromState).decode
MISBEHAVE = os.environ.get("MISBEHAVE", "")


class FakeProxy:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.configure: Configure | None = None
        self.fleet: FleetUpdate | None = None
        self.heard: list[PeerDelta] = []
        self.streams: set[asyncio.Task[Any]] = set()
        self.idle: set[asyncio.StreamWriter] = set()
        """Connections between an answer and the next line."""
        self.listeners: list[socket.socket] = []
        self.starting: asyncio.Task[None] | None = None
        self.draining: asyncio.Task[None] | None = None
        self.num_lines = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        frames = FrameProtocol(self.take)
        link = socket.socket(fileno=self.options.link)
        link.setblocking(False)
        self.transport, _ = await loop.create_unix_connection(lambda: frames, sock=link)
        await frames.closed.wait()
        await asyncio.sleep(0.1)  # as one that has something to write at its end
        os._exit(0)

    def send(self, message: Any) -> None:
        self.transport.write(with_length(encode(message)))

    def take(self, frame: bytes) -> None:
        message = decode(frame)
        if isinstance(message, Configure):
            self.configure = message
        elif isinstance(message, FleetUpdate):
            self.fleet = message
        elif isinstance(message, PeerDelta):
            self.heard.append(message)
        elif isinstance(message, Ask):
            self.send(Report(message.number, self.report(message)))
        elif isinstance(message, Drain) and self.draining is None:
            self.draining = asyncio.create_task(self.drain(message.timeout_s))
        if self.configure and self.fleet and self.starting is None and MISBEHAVE != "never ready":
            self.starting = asyncio.create_task(self.start())

    def report(self, ask: Ask) -> Any:
        number = self.options.process
        if ask.what == "metrics":
            return self.metrics()
        if ask.what == "decisions":
            return [{"ts": float(10 * i + number), "reason": "fake"} for i in range(3, 0, -1)]
        if ask.what == "connections":
            return {"open": len(self.streams)}
        return None

    def metrics(self) -> Any:
        return {
            "shoal_router_connections_total": [[[], self.num_lines]],
            "shoal_router_connections_open": [[[], len(self.streams)]],
        }

    async def start(self) -> None:
        for fd in self.options.listen:
            sock = socket.socket(fileno=fd)
            self.listeners.append(sock)
            asyncio.get_running_loop().add_reader(sock, self.accept, sock)
        self.send(Ready(self.options.process))

    def accept(self, sock: socket.socket) -> None:
        """Not asyncio's server: that loses a connection it has accepted when it is closed."""
        while True:
            try:
                connection, _ = sock.accept()
            except BlockingIOError:
                return
            connection.setblocking(False)
            task = asyncio.create_task(self.serve(connection))
            self.streams.add(task)
            task.add_done_callback(self.streams.discard)

    async def drain(self, timeout_s: float) -> None:
        for sock in self.listeners:
            asyncio.get_running_loop().remove_reader(sock)
            self.accept(sock)
            sock.close()
        for writer in self.idle:
            writer.close()
        if self.streams and MISBEHAVE != "never drains":
            await asyncio.wait(self.streams, timeout=timeout_s)
        if MISBEHAVE == "never drains":
            await asyncio.sleep(1000)
        self.send(Report(0, self.metrics()))
        self.transport.close()

    async def serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            while line := (await reader.readline()).decode().strip():
                self.idle.discard(writer)
                self.num_lines += 1
                writer.write((await self.answer(line, reader, writer) + "\n").encode())
                await writer.drain()
                if self.draining is not None:
                    break
                self.idle.add(writer)
        finally:
            self.idle.discard(writer)
            writer.close()

    async def answer(self, line: str, reader: Any, writer: Any) -> str:
        word, _, rest = line.partition(" ")
        assert self.configure is not None
        assert self.fleet is not None
        if word == "crash":
            os._exit(3)
        if word == "hang":
            time.sleep(1000)  # noqa: ASYNC251 - the loop is to stand still
        if word == "stream":
            writer.write(b"begin\n")
            await reader.readline()
            return "end"
        if word == "tell":
            self.send(msgspec.json.decode(rest, type=PeerDelta))
        return msgspec.json.encode({
            "pid": os.getpid(),
            "process": self.options.process,
            "config": self.configure.config,
            "keys": self.configure.keys.decode(),
            "fleet": self.fleet.endpoints,
            "heard": self.heard,
        }.get(word, "ok")).decode()  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--link", type=int, required=True)
    parser.add_argument("--listen", type=int, action="append", required=True)
    parser.add_argument("--process", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options, _ = parser.parse_known_args()
    die_with(options.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if MISBEHAVE == "crash at start":
        sys.exit(7)
    asyncio.run(FakeProxy(options).run())


if __name__ == "__main__":
    main()
