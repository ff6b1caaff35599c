"""One request, from its arrival to the end of its answer.

    admitted -> (waiting) -> trying -> answering -> ended

Until the first byte of an answer has been passed on, a failed try moves to another worker and the
client notices nothing. From then on the bytes of one worker flow through; should it break off, the
stream is continued on another where that is possible (`Continuation`), and else cut: a client sees
a broken answer, never one that only looks whole.

Callbacks, no task: an exchange costs the event loop two wake-ups, one a side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from shoal.errors import InternalError, RequestError, StreamCut

from ..core.types import Decision
from ..failover.resume import Call
from .answer_head import answer_head, failure_of, is_event_stream
from .answers import error_answer, error_event
from .attempt import Attempt, Failure, gave_up
from .continuation import Continuation, continuation_for
from .relay import Relay
from .response_head import ResponseHead

if TYPE_CHECKING:
    from .admission import Admission
    from .client import ClientConnection
    from .fleet_view import FleetEntry
    from .gateway import Gateway
    from .request_reader import Request

CLIENT_CLOSED_REQUEST: Final = 499
"""nginx's status for a client that went before its answer was whole; only ever in logs."""
_MAX_DEATHS: Final = 2
"""Workers one request may take down: it could be the request that kills them."""


class Exchange:
    """Owned by its client connection; `start` is called once, and it ends in `_finish`."""

    def __init__(self, gateway: Gateway, client: ClientConnection, request: Request) -> None:
        self.gateway = gateway
        self.client = client
        self.request = request
        self.request_id, self.trace = gateway.identify(request)
        self.admission: Admission | None = None
        """Whose request for what; None until that is known, and for the router's own routes."""
        self.excluded: frozenset[str] = frozenset()
        """endpoint_ids that have failed it."""
        self.continuation: Continuation | None = None
        """Keeps a stream that may have to go on elsewhere."""
        self._relay: Relay | None = None
        """Between us and the client, where the payload matters."""
        self.tried: list[Attempt] = []
        """All attempts, in order."""
        self._attempts: list[Attempt] = []
        """Those under way: one, or two with a hedge."""
        self._num_deaths = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.keep_alive = request.keep_alive
        self.is_committed = False
        """A byte of an answer has been passed on."""
        self.is_over = False
        # For the records.
        self.ended_at = 0.0
        self.waiting_since = 0.0
        self.queued_s = 0.0
        self.first_byte_at = 0.0
        self.num_attempts = 0
        self.num_failovers = 0
        self.num_chunks = 0
        self.bytes_out = 0
        self.status = 0
        self.error = ""
        self.first_bytes = b""
        self.tail = (b"", b"")
        """The first and the last bytes of the body: token counts stand there."""

    # Admission.

    def start(self) -> None:
        """Find out what is asked and by whom, then go on; never raises."""
        try:
            self.gateway.admit(self)
        except Exception as error:
            self._give_up(error)

    def run(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do what must be waited for (signing keys, tokens), as a task that ends with us."""
        self._task = asyncio.get_running_loop().create_task(self._run(step))

    async def _run(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if not isinstance(error, RequestError):
            self.gateway.report_fault(self)
            error = InternalError("The router made a mistake; its log has the details.")
        self.refuse(error)

    def reply(self, message: bytes, status: int) -> None:
        """An answer of the router's own, whole."""
        if not self.is_over:
            self.status = status
            if self.request.method == b"HEAD":  # told how long the body would be, and no more
                message = message[: message.index(b"\r\n\r\n") + 4]
            self.client.write(message)
            self.bytes_out += len(message)
            self._finish(keep_alive=self.keep_alive)

    def refuse(self, error: RequestError) -> None:
        """An error of the router's own: as the answer, or as the end of one that has begun."""
        if self.is_over:
            return
        self.error = error.code or error.type
        if self.is_committed:
            self._cut(error)
            return
        keep_alive = self.keep_alive and error.status != 413
        self.keep_alive = keep_alive
        lines = b"x-request-id: %b\r\n%b" % (self.request_id, self.gateway.limit_lines(self))
        self.reply(error_answer(error, keep_alive=keep_alive, lines=lines), error.status)

    # Waiting and trying.

    def dispatch(self) -> None:
        """Send it to the best worker, or into the waiting room; called again after each wait."""
        if not self.is_over:
            self._timer = None
            self.gateway.dispatcher.dispatch(self)

    def wait(self, delay_s: float) -> None:
        """Dispatch again after a pause."""
        self._timer = asyncio.get_running_loop().call_later(delay_s, self.dispatch)

    def try_on(self, entry: FleetEntry, decision: Decision, prefill_tokens: int) -> None:
        """Begin an attempt."""
        self.num_attempts += 1
        engine = entry.endpoint.engine
        if self.continuation is None or self.continuation.engine is not engine:
            self.continuation = continuation_for(self, engine)
        self._begin(
            Attempt(self, self.gateway.fleet, entry, decision, prefill_tokens=prefill_tokens)
        )
        hedge = self.gateway.config.hedge
        if hedge is not None and self.num_attempts == 1 and not self.is_over:
            self._timer = asyncio.get_running_loop().call_later(hedge.after_s, self._hedge)

    def _begin(self, attempt: Attempt) -> None:
        gateway = self.gateway
        self._attempts.append(attempt)
        self.tried.append(attempt)
        gateway.attempts.add(attempt)
        attempt.start(attempt.started_at + gateway.first_byte_timeout_s(self))

    def _hedge(self) -> None:
        self._timer = None
        if not self.is_over and not self.is_committed and len(self._attempts) == 1:
            self.gateway.dispatcher.hedge(self)

    @property
    def usage_bytes(self) -> bytes:
        """Where the token counts of the answer stand."""
        return b"".join(self.tail) if self._relay is None else self._relay.usage_bytes

    @property
    def body_bytes_out(self) -> int:
        """What the client was sent of the body, framing included."""
        return self.bytes_out if self._relay is None else self._relay.num_bytes

    @property
    def wants_payload(self) -> bool:
        """Whether the framing of the answer must be taken off."""
        admission = self.admission
        return (
            self.continuation is not None
            or self.request.http_1_0
            or (admission is not None and admission.hides_usage)
        )

    # From attempts.

    def attempt_refused(self, attempt: Attempt, status: int) -> None:
        """The worker's answer begins with an error that another worker might not give."""
        failure = failure_of(status)
        if self.is_committed or failure is None:
            return
        if len(self._attempts) > 1 or self.gateway.dispatcher.may_retry(self, attempt, failure):
            attempt.fail(failure, str(status))
        else:
            self.gateway.experience.note_failure(attempt, failure)

    def attempt_failed(self, attempt: Attempt, failure: Failure, detail: str) -> None:
        """An attempt ended without a whole answer."""
        self._attempts.remove(attempt)
        gateway = self.gateway
        gateway.attempts.discard(attempt)
        gateway.experience.note_failure(attempt, failure)
        if self.is_over or self._attempts:
            return
        if failure is Failure.LOST:
            self._num_deaths += 1
        if self.is_committed:
            self._continue()
        elif self._num_deaths < _MAX_DEATHS and gateway.dispatcher.retry(self, attempt, failure):
            return
        else:
            self.refuse(gave_up(failure, detail, self.num_attempts))

    def attempt_body(self, attempt: Attempt, data: bytes) -> None:
        """The first bytes of a worker's answer, with or without framing as we asked."""
        if not self.is_committed:
            self._commit(attempt, data)
            return
        relay, connection = self._relay, attempt.connection
        assert relay is not None  # only a relayed stream has a second worker
        if connection is not None:
            self.gateway.begin_stream_deadline(attempt)
            connection.relay, connection.stream = relay.feed, relay
            if self.client.paused:
                connection.pause()
        relay.feed(data)

    def attempt_ended(self, attempt: Attempt, tail: tuple[bytes, bytes]) -> None:
        """The worker's answer is whole."""
        self._attempts.remove(attempt)
        self.gateway.attempts.discard(attempt)
        if not self.is_committed:
            self._commit(attempt, b"")
        self.gateway.experience.note_end(attempt, attempt.ended_at - attempt.started_at)
        self.tail = tail
        self.num_chunks += attempt.num_reads
        self.bytes_out += attempt.num_bytes
        if self.continuation is not None and not self.continuation.has_ended:
            self._continue()  # a whole answer without the end of its stream
        else:
            self._end()

    def _end(self) -> None:
        if self._relay is not None:
            self._relay.end()
        self._finish(keep_alive=self.keep_alive)

    # Answering.

    def _commit(self, attempt: Attempt, data: bytes) -> None:
        """Pass on the head of the answer with its first bytes, in one write."""
        gateway, head = self.gateway, attempt.head
        assert head is not None
        for other in self._attempts[:]:
            if other is not attempt:
                self._attempts.remove(other)
                gateway.attempts.discard(other)
                other.cancel()
                gateway.metrics.hedges.add("won" if other is self.tried[0] else "lost")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.is_committed = True
        self.status = head.status
        self.first_byte_at = gateway.now()
        gateway.experience.note_first_byte(self, attempt)
        relayed = self.wants_payload
        message = answer_head(self, attempt, head)
        self.first_bytes = data
        if relayed:
            self._relay = self._open_relay(head)
            data = self._relay.first(data)
        connection = attempt.connection
        if connection is not None:
            gateway.begin_stream_deadline(attempt)
            connection.stream = self._relay
            connection.relay = self.client.write if self._relay is None else self._relay.feed
            if self.client.paused:
                connection.pause()
        self.client.write(message + data)
        if self.continuation is not None and self.continuation.has_failed:
            self._worker_says_no()

    def _open_relay(self, head: ResponseHead) -> Relay:
        is_stream = is_event_stream(head)
        if not is_stream:
            self.continuation = None
        admission = self.admission
        return Relay(
            self.client,
            is_framed=head.chunked and not self.request.http_1_0,
            continuation=self.continuation,
            hides_usage=is_stream and admission is not None and admission.hides_usage,
            on_failure=self._worker_says_no,
        )

    def _worker_says_no(self) -> None:
        """A worker can say in an event that it fails: as good as dead, and not passed on."""
        for attempt in self._attempts[:]:
            attempt.fail(Failure.LOST, "the worker says so")

    # Going on elsewhere.

    def _continue(self) -> None:
        """The worker broke off in the middle of the answer."""
        continuation = self.continuation
        if continuation is None:
            self._cut(StreamCut("The worker broke off; the rest of the answer is lost."))
        elif continuation.has_ended:
            self._end()  # only the closing of the connection was missing
        elif not continuation.may_go_on:
            self.gateway.metrics.failovers.add("impossible")
            self._cut(StreamCut("The worker broke off, and the stream cannot go on elsewhere."))
        else:
            self.num_failovers += 1
            self.exclude(self.tried[-1].entry)
            self.run(lambda: continuation.go_on(self))

    def exclude(self, entry: FleetEntry) -> None:
        """This worker is not to be asked again."""
        self.excluded = self.excluded | {entry.endpoint.endpoint_id}

    def send_events(self, data: bytes) -> None:
        """Events of the continuation itself."""
        if data and not self.is_over and self._relay is not None:
            self._relay.add(data)

    def end_events(self) -> None:
        """The continuation knew the rest of the stream by itself."""
        if not self.is_over:
            self._end()

    def resume_on(self, entry: FleetEntry, decision: Decision, call: Call) -> None:
        """Let a worker write the rest of the stream."""
        if not self.is_over:
            self._begin(
                Attempt(self, self.gateway.fleet, entry, decision, prefill_tokens=0, call=call)
            )

    def _cut(self, error: RequestError) -> None:
        """End an answer that cannot be completed so that the client can tell."""
        self.error = self.error or error.code or error.type
        if self._relay is not None and self._relay.end_with(error_event(error)):
            self._finish(keep_alive=False)
        else:
            client, head = self.client, self.tried[-1].head
            # Where the end of the body is the end of the connection, only a reset tells.
            is_open_ended = head is not None and (
                not head.is_delimited or (head.chunked and self.request.http_1_0)
            )
            self._finish(keep_alive=False)
            client.cut(reset=is_open_ended)

    # From the client.

    def client_gone(self) -> None:
        """Nobody waits for the answer any more: stop the workers now."""
        if not self.is_over:
            self.error = "client_closed"
            if not self.is_committed:
                self.status = CLIENT_CLOSED_REQUEST
            self._finish(keep_alive=False)

    def client_full(self) -> None:
        """The client takes less than the worker gives: the worker must wait."""
        for attempt in self._attempts:
            if attempt.connection is not None and self.is_committed:
                attempt.connection.pause()

    def client_drained(self) -> None:
        for attempt in self._attempts:
            if attempt.connection is not None:
                attempt.connection.resume()

    # The end.

    def untie(self) -> None:
        """Let go of what knows us, once all is written down: a cycle is dead memory till the
        collector comes."""
        self.tried.clear()
        self._relay = self.continuation = None

    def _finish(self, *, keep_alive: bool) -> None:
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        for attempt in self._attempts:
            self.gateway.attempts.discard(attempt)
            attempt.cancel()
        self._attempts.clear()
        self.gateway.close_exchange(self)
        self.client.finished(keep_alive=keep_alive)
