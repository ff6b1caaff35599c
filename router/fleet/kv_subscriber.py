"""The sockets of one worker's KV events: SUB for what is published, DEALER for what was missed.

ZeroMQ signals by edge: its descriptor wakes us once, and what is there must be read to the end. A
burst is read in turns of `TURN` messages, so that health checks go on beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import zmq
from zmq.utils.monitor import recv_monitor_message

from shoal.clock import Clock
from shoal.errors import ConfigError

from ..messages import KVBlocks
from .kv_feed import KVFeed

TURN = 32
"""Messages read before others have their turn: some 5 ms of long prompts."""
HIGH_WATER_MARK = 10_000
"""Messages that wait in ZeroMQ; more are dropped there, which shows as a gap."""
MAX_SOCKETS = 65_536
TICK_S = 1.0
_END = (-1).to_bytes(8, "big", signed=True)


def make_context() -> zmq.Context[zmq.Socket[bytes]]:
    """For all subscribers of a process: one I/O thread, and sockets for thousands of workers."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
    context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
    return context


class KVSubscriber:
    """Follows one worker; made and closed on the loop."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        feed: KVFeed,
        *,
        address: str,
        replay_address: str | None,
        on_blocks: Callable[[KVBlocks], None],
        clock: Clock,
    ) -> None:
        """Connects in the background. Raises ConfigError when an address is wrong."""
        self.feed = feed
        self.address = address
        self.replay_address = replay_address
        self._on_blocks = on_blocks
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.Handle | None = None
        self._published = context.socket(zmq.SUB)
        self._monitor = self._published.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        self._was_lost = False
        self._replay: zmq.Socket[bytes] | None = None
        try:
            self._published.set(zmq.RCVHWM, HIGH_WATER_MARK)
            _connect(self._published, address)
            self._published.subscribe(b"")
            if replay_address is not None:
                self._replay = context.socket(zmq.DEALER)
                self._replay.set(
                    zmq.RCVHWM, 2 * HIGH_WATER_MARK
                )  # a publisher keeps 10,000 batches
                _connect(self._replay, replay_address)
        except ConfigError:
            self._close_sockets()
            raise
        for socket in self._sockets():
            self._loop.add_reader(socket.fileno(), self._wake)
        self.feed.begin(clock.now())
        self._timer = self._loop.call_later(TICK_S, self._tick)
        self._wake()

    def process_restarted(self) -> None:
        """The worker is another process: its cache is empty, its numbers begin anew."""
        self.feed.process_restarted(self._clock.now())
        self._wake()

    def close(self) -> None:
        """Once."""
        self._timer.cancel()
        if self._turn is not None:
            self._turn.cancel()
        for socket in self._sockets():
            self._loop.remove_reader(socket.fileno())
        self._close_sockets()

    def _sockets(self) -> list[zmq.Socket[bytes]]:
        sockets = [self._published, self._monitor]
        return sockets if self._replay is None else [*sockets, self._replay]

    def _read_monitor(self, now: float) -> None:
        """Whether the connection was lost, and is back."""
        while True:
            try:
                told = recv_monitor_message(self._monitor, zmq.NOBLOCK)
            except zmq.Again:
                return
            if told["event"] == zmq.EVENT_DISCONNECTED:
                self._was_lost = True
            elif self._was_lost:
                self._was_lost = False
                self.feed.reconnected(now)

    def _close_sockets(self) -> None:
        self._published.disable_monitor()
        for socket in self._sockets():
            socket.close(linger=0)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._tick)
        self.feed.tick(self._clock.now())
        self._wake()

    def _wake(self) -> None:
        if self._turn is None:
            self._turn = self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._turn = None
        now = self._clock.now()
        self._read_monitor(now)
        # Replays first: what is published meanwhile waits for them.
        is_empty = self._read_replay(now)
        is_empty = self._read_published(now) and is_empty
        first = self.feed.take_replay_request()
        if first is not None and self._replay is not None:
            with contextlib.suppress(zmq.Again):  # nobody there: the feed gives up in time
                self._replay.send_multipart([b"", first.to_bytes(8, "big")], zmq.NOBLOCK)
        if (blocks := self.feed.take()) is not None:
            self._on_blocks(blocks)
        if first is not None or not is_empty:
            self._wake()

    def _read_published(self, now: float) -> bool:
        """Returns whether all is read."""
        for _ in range(TURN):
            try:
                frames = self._published.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return True
            if len(frames) >= 2 and len(frames[-2]) == 8:
                self.feed.published(int.from_bytes(frames[-2], "big"), frames[-1], now)
        return False

    def _read_replay(self, now: float) -> bool:
        if self._replay is None:
            return True
        for _ in range(TURN):
            try:
                # (empty, number, payload); newer publishers put their topic before the number.
                frames = self._replay.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return True
            if len(frames) < 2 or len(frames[-2]) != 8:
                continue
            if frames[-2] == _END:
                self.feed.replay_ended(now)
            else:
                self.feed.replayed(int.from_bytes(frames[-2], "big"), frames[-1], now)
        return False


def _connect(socket: zmq.Socket[bytes], address: str) -> None:
    socket.set(zmq.IPV6, 1)
    # Backs off from a worker that is down; it is tried every 0.1 s otherwise.
    socket.set(zmq.RECONNECT_IVL_MAX, 2_000)
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        raise ConfigError(f"cannot follow KV events at {address!r}: {error}") from None
