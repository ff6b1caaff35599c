"""One try of one request on one worker: connect, send, watch, report to the exchange.

An attempt ends in exactly one of three ways: its answer is relayed to the end, it fails with a
reason, or it is cancelled because nobody waits for it any more. However it ends, the endpoint's
counts are given back once, in `_settle`.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from shoal.errors import BadGateway, GatewayTimeout, RequestError

from ..core.types import Decision
from ..failover.resume import Call
from .fleet_view import FleetEntry, FleetView
from .response_head import ResponseHead
from .upstream import UpstreamConnection
from .worker_message import worker_message

if TYPE_CHECKING:
    from .exchange import Exchange

_STALE_S: Final = 0.1


class Failure(StrEnum):
    """Why an attempt did not become the answer."""

    CONNECT = "connect"
    """No connection: the worker never saw the request."""
    STALE = "stale"
    """A pooled connection was closed under us: the worker most likely never saw the request."""
    LOST = "lost"
    """The worker broke off after it had the request."""
    TIMEOUT = "timeout"
    """No byte of the answer in time, or silence inside it."""
    BUSY = "busy"
    """429 or 503: back-pressure, not a fault."""
    STATUS = "status"
    """500, 502 or 504."""


def gave_up(failure: Failure, detail: str, num_attempts: int) -> RequestError:
    """What the client is told after so many attempts, of which the last failed thus."""
    tries = f"{num_attempts} worker{'s were' if num_attempts > 1 else ' was'} tried"
    if failure is Failure.TIMEOUT:
        return GatewayTimeout(f"No worker began its answer in time; {tries}.")
    return BadGateway(f"No worker answered; {tries}, the last failed: {failure} {detail}".strip())


class Attempt:
    """Owned by its exchange."""

    __slots__ = (
        "_connecting",
        "_fleet",
        "_prefill_tokens",
        "call",
        "connection",
        "deadline",
        "decision",
        "ended_at",
        "entry",
        "exchange",
        "failure",
        "first_byte_at",
        "head",
        "is_settled",
        "num_bytes",
        "num_reads",
        "num_reads_seen",
        "seen",
        "started_at",
        "was_pooled",
    )

    def __init__(
        self,
        exchange: Exchange,
        fleet: FleetView,
        entry: FleetEntry,
        decision: Decision,
        *,
        prefill_tokens: int,
        call: Call | None = None,
    ) -> None:
        self.exchange = exchange
        self.entry = entry
        self.decision = decision
        self.call = call
        """What is sent in place of the client's request: the rest of a stream."""
        self.seen = entry.state
        """The endpoint as the decision saw it, for what is learnt from the outcome."""
        self._fleet = fleet
        self._prefill_tokens = prefill_tokens
        self._connecting: asyncio.Task[None] | None = None
        self.connection: UpstreamConnection | None = None
        self.head: ResponseHead | None = None
        self.started_at = exchange.gateway.now()
        self.ended_at = 0.0
        self.first_byte_at = 0.0
        self.deadline = 0.0
        """When the sweeper ends it."""
        self.num_reads_seen = -1
        """The sweeper's: what `connection.num_reads` was when it last looked."""
        self.was_pooled = False
        self.is_settled = False
        self.failure: Failure | None = None
        self.num_bytes = 0
        self.num_reads = 0
        """Of the answer's body, when it has ended."""
        fleet.begin(entry, prefill_tokens)

    @property
    def endpoint_id(self) -> str:
        return self.entry.endpoint.endpoint_id

    @property
    def in_flight(self) -> int:
        """Requests the endpoint has, this one included."""
        return self.entry.state.in_flight

    def start(self, deadline: float) -> None:
        """Send the request, over a pooled connection if there is one."""
        self.deadline = deadline
        connection = None if self._met_stale else self.entry.pool.take(self.started_at)
        if connection is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
        else:
            self.was_pooled = True
            self._send(connection)

    def cancel(self) -> None:
        """Nobody waits for it any more: the worker is told by the end of its connection."""
        self._leave()
        self._settle()

    def fail(self, failure: Failure, detail: str = "") -> None:
        """Give up on this worker and tell the exchange."""
        if self.is_settled:
            return
        self.failure = failure
        self._leave()
        self._settle()
        self.exchange.attempt_failed(self, failure, detail)

    # From the connection.

    def on_head(self, head: ResponseHead) -> None:
        self.head = head
        if head.status >= 429:
            self.exchange.attempt_refused(self, head.status)

    def on_body(self, data: bytes) -> None:
        if not self.first_byte_at:
            self._first_byte()
        self.exchange.attempt_body(self, data)

    def on_end(self) -> None:
        if not self.first_byte_at:
            self._first_byte()
        if self.is_settled:
            return
        connection = self.connection
        assert connection is not None
        tail = connection.tail
        self.num_bytes, self.num_reads = connection.num_bytes, connection.num_reads
        self.connection = None
        connection.release()
        self._settle()
        self.exchange.attempt_ended(self, tail)

    def on_lost(self, reason: str) -> None:
        self.connection = None
        self.fail(Failure.STALE if self._is_stale() else Failure.LOST, reason)

    # Inside.

    async def _connect(self) -> None:
        try:
            connection = await self.entry.pool.connect()
        except (OSError, ValueError) as error:
            self._connecting = None
            self.fail(Failure.CONNECT, type(error).__name__)
            return
        self._connecting = None
        self.exchange.gateway.metrics.endpoint(self.endpoint_id).connected(True)
        if self.is_settled:
            connection.abandon()
        else:
            self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        self.connection = connection
        exchange = self.exchange
        connection.send(self, worker_message(self), wants_payload=exchange.wants_payload)

    @property
    def _met_stale(self) -> bool:
        tried = self.exchange.tried
        return len(tried) > 1 and any(other.failure is Failure.STALE for other in tried)

    def _is_stale(self) -> bool:
        """Whether the worker had closed the connection before it saw the request: then that shows
        within a round trip. A request that has met it once gets new connections from then on."""
        return (
            self.was_pooled
            and self.head is None
            and self.exchange.gateway.now() - self.started_at < _STALE_S
        )

    def _first_byte(self) -> None:
        exchange = self.exchange
        self.first_byte_at = exchange.gateway.now()
        connection = self.connection
        if connection is None or not connection.complete:  # else it ends at once
            self._fleet.first_token(self.entry, self._prefill_tokens)
            self._prefill_tokens = 0

    def _leave(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abandon()

    def _settle(self) -> None:
        if not self.is_settled:
            self.is_settled = True
            self.ended_at = self.exchange.gateway.now()
            self._fleet.end(self.entry, self._prefill_tokens)
            self._prefill_tokens = 0
            self.exchange.gateway.dispatcher.wake()
