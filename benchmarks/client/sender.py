"""Sends one session, turn by turn, and records each request."""

from __future__ import annotations

import asyncio
import time

from shoal.benchmarks.measure.record import RequestRecord
from shoal.benchmarks.measure.summary import CANCELLED
from shoal.benchmarks.workload.plan import Session

from .answer import Answer
from .conversation import PATHS, Conversation, RequestForm
from .http import HTTPClient


class Sender:
    """Owns the connections of a process and the records of what went over them."""

    def __init__(self, client: HTTPClient, form: RequestForm, *, timeout_s: float) -> None:
        self._client = client
        self._form = form
        self._path = PATHS[form.endpoint]
        self._timeout_s = timeout_s
        self.origin = 0.0
        """perf_counter at the start of the run; records count from it."""
        self._records: list[RequestRecord] = []
        self._open: set[Answer] = set()
        self.num_sent = 0
        self._num_tokens = 0

    @property
    def in_flight(self) -> int:
        return len(self._open)

    @property
    def num_tokens(self) -> int:
        return self._num_tokens + sum(answer.num_chunks for answer in self._open)

    def take_records(self) -> list[RequestRecord]:
        """Records since the last call."""
        records, self._records = self._records, []
        return records

    async def run(self, index: int, session: Session, intended: float | None) -> None:
        """Send the turns of a session; a failed turn ends it.

        `intended` is on perf_counter; None means now, once the first body is made (closed loop).
        """
        conversation = Conversation(self._form, session)
        for number, turn in enumerate(session.turns):
            body = conversation.body(turn)
            if number > 0 and intended is not None:
                await sleep_until(intended)
            if intended is None:
                intended = time.perf_counter()
            record = RequestRecord(
                session=index,
                turn=number,
                intended_s=intended - self.origin,
                planned_prompt_tokens=_planned_tokens(session, number),
                planned_output_tokens=turn.max_tokens,
            )
            answer = Answer(keep_text=conversation.keeps_answers)
            await self._send(body, answer, record)
            if answer.error is not None:
                return
            if number + 1 < len(session.turns):
                conversation.add_answer(answer.text)
                intended = time.perf_counter() + session.turns[number + 1].pause_s

    async def _send(self, body: bytes, answer: Answer, record: RequestRecord) -> None:
        self._open.add(answer)
        self.num_sent += 1
        request_id = f"bench-{record.session}-{record.turn}"
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.post(self._path, body, answer, request_id=request_id)
        except TimeoutError:
            answer.fail("timeout", f"no complete answer within {self._timeout_s:g} s")
        except asyncio.CancelledError:
            answer.fail(CANCELLED, "the run was interrupted")
            raise
        finally:
            self._open.discard(answer)
            self._num_tokens += answer.num_chunks
            self._fill(record, answer)
            self._records.append(record)

    def _fill(self, record: RequestRecord, answer: Answer) -> None:
        """What became of the request."""
        record.end_s = time.perf_counter() - self.origin
        if answer.sent_s is not None:
            record.sent_s = answer.sent_s - self.origin
        if answer.first_s is not None:
            record.first_s = answer.first_s - self.origin
            record.last_s = answer.last_s - self.origin
        record.gaps = answer.gaps.tobytes()
        record.num_chunks = answer.num_chunks
        record.error, record.detail, record.status = answer.error, answer.detail, answer.status
        if (usage := answer.usage) is not None:
            record.prompt_tokens = usage.prompt_tokens
            record.output_tokens = usage.completion_tokens
            if (details := usage.prompt_tokens_details) is not None:
                record.cached_tokens = details.cached_tokens


def _planned_tokens(session: Session, number: int) -> int | None:
    """Prompt tokens of a turn as the workload planned them; later turns hold answers that nobody
    planned."""
    own = session.turns[number].num_prompt_tokens
    if number > 0 or own is None or session.num_opening_tokens is None:
        return None
    return session.num_opening_tokens + own


SPIN_S = 0.0015
"""Timers of event loops tick in milliseconds; what is left below this is waited out by yielding."""


async def sleep_until(when: float) -> None:
    """Return at `when` on perf_counter, late by some microseconds instead of a millisecond.

    While it yields, streams are read as always. The spinning costs at most SPIN_S of CPU time a
    request, and it is counted in the CPU share that the client reports of itself.
    """
    remaining = when - time.perf_counter()
    if remaining > SPIN_S:
        await asyncio.sleep(remaining - SPIN_S)
    while time.perf_counter() < when:  # noqa: ASYNC110 (no timer is as fine)
        await asyncio.sleep(0)
