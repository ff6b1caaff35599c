"""The data-plane process's end of its link to the state process, and what it tells its siblings."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from shoal.frames import FrameProtocol, with_length

from ..messages import (
    Ask,
    Configure,
    Drain,
    FleetUpdate,
    FromDataPlane,
    FromState,
    KVBlocks,
    PeerDelta,
    Ready,
    Report,
)
from .reports import report

if TYPE_CHECKING:
    from .gateway import Gateway

_TELL_SIBLINGS_S = 0.02
_TELL_S = 0.2
"""Without siblings only the state process listens: for drains, and for the autoscaler's demand."""
_UNASKED = 0
"""Number of the report that nobody asked for: the last one (`control/child.py`)."""
_CLOSE_S = 1.0
_MAX_HASHES = 20_000
"""Of one delta; routed prefixes beyond it are not told."""


class Link:
    """One per process. `closed` is set when the state process is gone."""

    def __init__(self, gateway: Gateway, *, on_drain: Callable[[float], None]) -> None:
        self._gateway = gateway
        self._on_drain = on_drain
        self._decode = msgspec.msgpack.Decoder(FromState).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._protocol = FrameProtocol(self._on_message)
        self._transport: asyncio.WriteTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._held: dict[str, int] = {}
        self._is_ready = False
        self.has_fleet = asyncio.Event()
        """Set when configuration and fleet are known."""
        self.failure: Exception | None = None
        """Why the first configuration could not be taken."""

    @property
    def closed(self) -> asyncio.Event:
        return self._protocol.closed

    async def open(self, link: socket.socket) -> None:
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: self._protocol, sock=link
        )
        self._transport = transport
        self._tell()

    def ready(self) -> None:
        """We accept connections."""
        self._is_ready = True
        self._send(Ready(self._gateway.process))

    async def close(self) -> None:
        """Tell what has not been told, the counters above all, and close."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None and not self._transport.is_closing():
            self._send_delta()
            self._send(Report(_UNASKED, report(self._gateway, "metrics", 0)))
            # Only our half: what the state process is writing now would fail at a closed end, and
            # a failed write makes it forget what it has not read. It closes when it has.
            self._transport.write_eof()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.closed.wait(), _CLOSE_S)
            self._transport.close()

    def _on_message(self, message: bytes) -> None:
        gateway = self._gateway
        match self._decode(message):
            case Configure(config, keys):
                try:
                    gateway.configure(config, keys)
                except Exception as error:
                    if self.has_fleet.is_set():
                        raise  # the state process checks what it sends
                    self.failure = error
                    self.has_fleet.set()
            case FleetUpdate(endpoints):
                gateway.take_fleet(endpoints)
                self.has_fleet.set()
            case KVBlocks() as blocks:
                gateway.experience.take_blocks(blocks)
            case PeerDelta() as delta:
                gateway.fleet.absorb(delta)
                for endpoint_id, hashes in delta.routed:
                    if endpoint_id in gateway.fleet.entries:
                        gateway.experience.index.record(endpoint_id, hashes)
                gateway.limiter.absorb(delta.consumed, gateway.now())
                gateway.limiter.absorb_parallel(delta.process, delta.parallel)
                gateway.dispatcher.wake()
            case Drain(timeout_s):
                self._on_drain(timeout_s)
            case Ask(number, what, limit):
                self._send(Report(number, report(gateway, what, limit)))

    def _tell(self) -> None:
        has_siblings = self._gateway.config.listen.processes > 1
        self._timer = asyncio.get_running_loop().call_later(
            _TELL_SIBLINGS_S if has_siblings else _TELL_S, self._tell
        )
        self._send_delta()

    def _send_delta(self) -> None:
        gateway = self._gateway
        fleet = gateway.fleet
        changed, fleet.changed_in_flight = fleet.changed_in_flight, set()
        routed, gateway.routed = gateway.routed, []
        consumed = gateway.limiter.consumed_since()
        parallel = gateway.limiter.parallel_since()
        held = gateway.dispatcher.held_by_model()
        if not (changed or routed or consumed or parallel or held != self._held):
            return
        self._held = held
        entries = [entry for id_ in changed if (entry := fleet.entries.get(id_)) is not None]
        self._send(
            PeerDelta(
                in_flight={e.endpoint.endpoint_id: e.own_in_flight for e in entries},
                prefill_tokens={e.endpoint.endpoint_id: e.own_prefill_tokens for e in entries},
                routed=_bounded(routed),
                consumed=consumed,
                parallel=parallel,
                held=held,
                process=gateway.process,
            )
        )

    def _send(self, message: FromDataPlane | Any) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(with_length(self._encode(message)))


def _bounded(routed: list[tuple[str, list[int]]]) -> list[tuple[str, list[int]]]:
    num_hashes = 0
    for count, (_, hashes) in enumerate(routed):
        num_hashes += len(hashes)
        if num_hashes > _MAX_HASHES:
            return routed[:count]
    return routed
