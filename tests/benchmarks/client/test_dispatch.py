from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Any

import pytest

from shoal.benchmarks.client.ahead import Ahead
from shoal.benchmarks.client.answer import Answer
from shoal.benchmarks.client.conversation import RequestForm
from shoal.benchmarks.client.dispatch import (
    check_ends,
    closed_loop,
    open_loop,
    session_times,
    share_of_sessions,
)
from shoal.benchmarks.client.http import HTTPClient
from shoal.benchmarks.client.messages import Load
from shoal.benchmarks.client.sender import Sender, sleep_until
from shoal.benchmarks.workload.arrivals import ArrivalSpec
from shoal.benchmarks.workload.plan import Session, Turn
from shoal.errors import ConfigError


class Plain:
    """A workload of one-turn sessions."""

    def __init__(self, num_sessions: int | None = None, *, num_turns: int = 1) -> None:
        self.num_sessions = num_sessions
        self._turns = (Turn(prompt="hi", num_prompt_tokens=1, max_tokens=1),) * num_turns

    def session(self, index: int) -> Session:
        return Session(turns=self._turns)

    def start_times(self) -> Iterator[float] | None:
        return None


class FakeHTTP(HTTPClient):
    """Answers after `delay_s`, and when so many requests are open."""

    def __init__(self, delay_s: float = 0.0, *, waits_for: int = 0) -> None:
        self._delay_s = delay_s
        self._waits_for = waits_for
        self._enough = asyncio.Event()
        self.open = 0
        self.most_open = 0
        self.bodies: list[bytes] = []

    async def post(self, path: str, body: bytes, answer: Answer, *, request_id: str) -> None:
        answer.sent_s = time.perf_counter()
        self.bodies.append(body)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        if self.open >= self._waits_for:
            self._enough.set()
        try:
            await asyncio.sleep(self._delay_s)
            await self._enough.wait()
        finally:
            self.open -= 1
        answer.on_headers(200, b"text/event-stream")
        chunk = b'data: {"choices": [{"text": "a", "finish_reason": "length"}]}\n\n'
        answer.on_body(chunk, time.perf_counter())
        answer.on_complete()


def sender(client: FakeHTTP, *, timeout_s: float = 5.0) -> Sender:
    made = Sender(client, RequestForm(model="m"), timeout_s=timeout_s)
    made.origin = time.perf_counter()
    return made


async def test_an_open_loop_does_not_wait_for_anybody() -> None:
    client = FakeHTTP(waits_for=3)
    sending = sender(client, timeout_s=20.0)
    await open_loop(sending, Ahead(Plain(), iter([(0, 0.0), (1, 0.05), (2, 0.1)])))
    records = sorted(sending.take_records(), key=lambda record: record.session)
    assert client.most_open == 3
    assert [record.error for record in records] == [None] * 3
    assert [record.intended_s for record in records] == pytest.approx([0.0, 0.05, 0.1])
    assert all(r.sent_s is not None and r.sent_s >= r.intended_s for r in records)


async def test_a_stalled_client_does_not_hide_the_wait() -> None:
    """Coordinated omission: a request that leaves late has waited since it was due."""
    sending = sender(FakeHTTP())
    asyncio.get_running_loop().call_later(0.01, time.sleep, 0.2)
    await open_loop(sending, Ahead(Plain(), iter([(0, 0.05)])))
    (record,) = sending.take_records()
    assert record.intended_s == pytest.approx(0.05)
    assert record.ttft_s is not None
    assert record.ttft_s > 0.1


async def test_a_burst_of_long_prompts_leaves_at_once() -> None:
    """Five prompts that take 30 ms each to write are due at one moment, a second from now."""
    written: list[int] = []

    class Slow(Plain):
        def session(self, index: int) -> Session:
            time.sleep(0.03)
            written.append(index)
            return super().session(index)

    class Client(FakeHTTP):
        async def post(self, *args: Any, **options: Any) -> None:
            num_written.append(len(written))
            await super().post(*args, **options)

    num_written: list[int] = []
    sending = sender(Client())
    await open_loop(sending, Ahead(Slow(), iter([(0, 0.0), *((i, 1.0) for i in range(1, 6))])))
    assert len(num_written) == 6
    assert num_written[1:] == [6] * 5  # all were written before the first of them left


async def test_a_closed_loop_keeps_its_slots_full() -> None:
    client = FakeHTTP(delay_s=0.01)
    sending = sender(client)
    await closed_loop(sending, Plain(), iter(range(10)), slots=3, until_s=60.0)
    assert client.most_open == 3
    assert sorted(record.session for record in sending.take_records()) == list(range(10))


async def test_a_closed_loop_ends_with_its_time() -> None:
    sending = sender(FakeHTTP(delay_s=0.02))
    indices = share_of_sessions(Load(concurrency=1), Plain(), 0, 1)
    await closed_loop(sending, Plain(), indices, slots=1, until_s=0.5)
    assert 1 <= len(sending.take_records()) <= 26


async def test_a_turn_counts_from_the_end_of_the_answer_before() -> None:
    sending = sender(FakeHTTP())
    await sending.run(0, Plain(num_turns=3).session(0), None)
    records = sending.take_records()
    assert [record.turn for record in records] == [0, 1, 2]
    for before, after in pairwise(records):
        assert after.intended_s >= (before.end_s or 0.0)
    assert [record.planned_prompt_tokens for record in records] == [1, None, None]


async def test_a_failed_turn_ends_its_session() -> None:
    sending = sender(FakeHTTP(delay_s=5.0), timeout_s=0.05)
    await sending.run(0, Plain(num_turns=3).session(0), None)
    (record,) = sending.take_records()
    assert (record.error, sending.in_flight) == ("timeout", 0)


async def test_cancelled_requests_leave_a_record() -> None:
    sending = sender(FakeHTTP(delay_s=5.0))
    task = asyncio.create_task(sending.run(0, Plain().session(0), None))
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    (record,) = sending.take_records()
    assert record.error == "cancelled"


@pytest.mark.parametrize("num_shares", [1, 2, 3])
def test_shares_part_the_plan_and_lose_nothing(num_shares: int) -> None:
    load = Load(arrivals=ArrivalSpec(rate=20.0), duration_s=5.0)
    whole = list(session_times(load, Plain(), seed=3, share=0, num_shares=1))
    parts = [
        list(session_times(load, Plain(), seed=3, share=share, num_shares=num_shares))
        for share in range(num_shares)
    ]
    assert sorted(chain(*parts)) == whole
    assert [index for index, _ in whole] == list(range(len(whole)))


@pytest.mark.parametrize(
    ("load", "rows", "expected"),
    [
        (Load(num_sessions=5), None, [0, 1, 2, 3, 4]),
        (Load(num_sessions=5), 3, [0, 1, 2]),
        (Load(), 2, [0, 1]),
    ],
)
def test_the_shorter_limit_holds(load: Load, rows: int | None, expected: list[int]) -> None:
    assert list(share_of_sessions(load, Plain(rows), 0, 1)) == expected


def test_a_number_of_sessions_ends_an_open_loop() -> None:
    load = Load(arrivals=ArrivalSpec(rate=5.0), num_sessions=7)
    assert len(list(session_times(load, Plain(), seed=0, share=0, num_shares=1))) == 7


def test_without_times_a_rate_is_needed() -> None:
    with pytest.raises(ConfigError, match="rate"):
        next(session_times(Load(), Plain(), seed=0, share=0, num_shares=1))


def test_a_run_needs_an_end() -> None:
    with pytest.raises(ConfigError, match="no end"):
        check_ends(Load(concurrency=1), Plain())
    for load, rows in ((Load(duration_s=1.0), None), (Load(num_sessions=1), None), (Load(), 1)):
        check_ends(load, Plain(rows))


async def test_sleeping_never_ends_early() -> None:
    for wait_s in (0.0, 0.0007, 0.004):
        due = time.perf_counter() + wait_s
        await sleep_until(due)
        assert time.perf_counter() >= due
