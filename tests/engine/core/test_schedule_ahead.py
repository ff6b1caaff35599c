"""What a step that is decided ahead knows, leaves out and waits for."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.engine.core.output import (
    EngineCoreOutputs,
    ReasonKind,
    RejectionKind,
    SchedulerOutput,
)
from shoal.engine.core.request import FinishReason, RequestStatus
from shoal.engine.core.scheduler import Scheduler
from tests.builders import make_request, make_scheduler
from tests.overlapping_runner import DelayedOutput, OverlappingRunner


class Loop:
    """Decides and collects when told to, and checks the books after each."""

    def __init__(self, runner: OverlappingRunner | None = None, **scheduler: Any) -> None:
        self.scheduler: Scheduler = make_scheduler(**scheduler)
        self.runner = runner or OverlappingRunner()
        self.in_flight: list[tuple[SchedulerOutput, DelayedOutput]] = []

    def add(self, *args: Any, **kwargs: Any) -> None:
        assert self.scheduler.add_request(make_request(*args, **kwargs)) is None

    def decide(self, now: float = 0.0) -> dict[str, int] | None:
        if len(self.in_flight) == 2:
            return None
        ahead = bool(self.in_flight)
        out = self.scheduler.schedule_ahead(now) if ahead else self.scheduler.schedule(now)
        if out is None:
            return None
        self.in_flight.append((out, self.runner.submit(out)))
        self.scheduler.check_integrity()
        return dict(out.num_scheduled_tokens)

    def collect(self, now: float = 0.0) -> EngineCoreOutputs:
        out, pending = self.in_flight.pop(0)
        result = self.scheduler.update_from_output(out, pending.result(), now)
        self.scheduler.check_integrity()
        return result

    @property
    def num_used(self) -> int:
        return round(self.scheduler.make_stats().kv_cache_usage * 100)


def test_chunks_and_decodes_go_on_without_their_output() -> None:
    loop = Loop(max_num_batched_tokens=16)
    loop.add(40, request_id="a", max_tokens=4)
    steps = [loop.decide()]
    for _ in range(5):
        steps.append(loop.decide())
        loop.collect()
    # The fourth sampled token needs no step; the last decide has nothing to do.
    assert steps == [{"a": 16}, {"a": 16}, {"a": 8}, {"a": 1}, {"a": 1}, {"a": 1}]
    assert loop.decide() is None
    assert loop.collect().finish_reasons == {"a": FinishReason.LENGTH}


def test_a_prompt_with_one_token_left_decodes_it() -> None:
    loop = Loop(max_num_batched_tokens=9)
    loop.add(10, request_id="a", max_tokens=2)
    loop.add(20, request_id="b", arrival_time=1.0)
    assert loop.decide() == {"a": 9}
    # As a decode: it comes first, and no budget can leave it out.
    assert loop.decide() == {"a": 1, "b": 8}
    loop.collect()
    assert loop.decide() == {"a": 1, "b": 8}


def test_the_only_output_token_may_come_of_a_prompts_last_token_decoded() -> None:
    loop = Loop(max_num_batched_tokens=9)
    loop.add(10, request_id="a", max_tokens=1)
    assert [loop.decide(), loop.decide()] == [{"a": 9}, {"a": 1}]
    loop.collect()
    assert loop.decide() is None
    assert loop.collect().finish_reasons == {"a": FinishReason.LENGTH}


def test_a_pending_token_has_its_slot() -> None:
    loop = Loop()
    loop.add(8, request_id="a", max_tokens=9)
    loop.decide()
    out = loop.scheduler.schedule_ahead(0.0)  # token 9, the first of the third block
    assert out is not None
    assert list(out.new_block_ids) == ["a"]


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 9])
def test_the_last_token_by_length_is_known_in_advance(max_tokens: int) -> None:
    loop = Loop()
    loop.add(4, request_id="a", max_tokens=max_tokens)
    decided, got = [loop.decide()], []
    while loop.in_flight:
        decided.append(loop.decide())
        got += loop.collect().new_token_ids
    computed = [step for step in decided if step]
    assert len(computed) == len(got) == max_tokens
    assert loop.num_used == 0


def test_a_stop_token_ends_a_request_whose_next_step_is_in_flight() -> None:
    loop = Loop(OverlappingRunner(eos_after={"a": 2}))
    loop.add(4, request_id="a")
    loop.add(4, request_id="b")
    loop.decide()
    loop.decide()
    loop.collect()
    loop.decide()
    result = loop.collect()
    assert result.finish_reasons == {"a": FinishReason.STOP}
    assert loop.num_used == 4  # of a, too, until its step is over
    loop.decide()
    result = loop.collect()
    assert result.req_ids == ["b"]  # nobody hears of a's third token
    assert loop.num_used == 2


def test_an_abort_frees_blocks_when_the_step_in_flight_is_over() -> None:
    loop = Loop()
    loop.add(8, request_id="a")
    loop.decide()
    loop.decide()
    loop.scheduler.finish_requests(["a"], RequestStatus.FINISHED_ABORTED)
    used = loop.num_used
    assert used
    assert loop.collect().req_ids == []
    assert loop.num_used == used
    loop.collect()
    assert loop.num_used == 0


def test_an_id_is_in_use_until_the_last_step_that_speaks_of_it_is_over() -> None:
    loop = Loop(queue_timeout_s=5.0, max_num_seqs=1)
    loop.add(8, request_id="a")
    loop.add(8, request_id="late")
    loop.decide()
    loop.scheduler.finish_requests(["a"], RequestStatus.FINISHED_ABORTED)
    rejection = loop.scheduler.add_request(make_request(request_id="a"))
    assert rejection is not None
    assert rejection.kind is RejectionKind.INVALID
    loop.decide(now=9.0)
    assert loop.scheduler.add_request(make_request(request_id="late", arrival_time=9.0)) is not None
    assert loop.collect().finish_reasons == {"late": FinishReason.TIMEOUT}
    loop.add(request_id="a", arrival_time=9.0)
    loop.add(request_id="late", arrival_time=9.0)


def test_outputs_are_shared_once_their_ids_are_known() -> None:
    """A block that the step in flight fills, or whose last token it samples, is found by nobody."""
    loop = Loop()
    loop.add(prompt=[1, 2, 3, 4, 5, 6], request_id="a", max_tokens=30)
    loop.decide()
    while loop.scheduler.make_stats().num_running and loop.in_flight:
        loop.decide()
        loop.collect()
        if len(loop.runner.tokens["a"]) == 15:
            break
    # 15 tokens on the device, of which the host knows 14; the KV of 13 is known to be there.
    known = loop.runner.tokens["a"][:14]
    loop.scheduler.finish_requests(["a"], RequestStatus.FINISHED_ABORTED)
    loop.collect()
    loop.add(prompt=[*known, 7, 7, 7], request_id="b")
    loop.decide()
    assert loop.scheduler.make_stats().prefix_cache_hits == 12


def test_preemption_waits_for_rest() -> None:
    loop = Loop(num_blocks=11)  # 40 slots
    loop.add(16, request_id="a", max_tokens=20)
    loop.add(15, request_id="b", max_tokens=20)
    preempted = []
    while loop.scheduler.has_unfinished_requests():
        at_rest = not loop.in_flight
        if loop.decide() is not None:
            gone = loop.in_flight[-1][0].preempted_req_ids
            assert at_rest or not gone
            preempted += gone
        loop.decide()
        loop.collect()
    assert preempted == ["b"]


def test_who_is_urgent_gets_rest_for_a_preemption() -> None:
    loop = Loop(max_num_seqs=1)
    loop.add(4, request_id="low", priority=5, max_tokens=50)
    loop.decide()
    loop.decide()
    loop.collect()
    loop.add(4, request_id="urgent", priority=0, max_tokens=2)
    assert loop.decide() == {"low": 1}
    assert {r.request_id: r.kind for r in loop.in_flight[-1][0].reasons} == {
        "urgent": ReasonKind.MAX_NUM_SEQS
    }
    loop.collect()
    assert loop.decide() is None  # what is in flight has to end
    loop.collect()
    assert loop.decide() == {"urgent": 4}
    assert loop.in_flight[-1][0].preempted_req_ids == ["low"]
    assert loop.decide() == {"urgent": 1}  # and then goes on as before


def test_a_window_stays_readable_for_the_step_in_flight() -> None:
    loop = Loop(
        OverlappingRunner(windows=(4,)), windows=(4,), num_blocks=6, max_num_batched_tokens=8
    )
    loop.add(4, request_id="a", max_tokens=60)
    while loop.scheduler.has_unfinished_requests():
        loop.decide()
        loop.decide()
        loop.collect()  # the runner checks what it reads, and what is handed out meanwhile


def test_nothing_to_compute_is_no_step() -> None:
    loop = Loop()
    loop.add(4, max_tokens=1)
    loop.decide()
    assert loop.decide() is None


def test_a_decision_needs_rest_or_one_step_in_flight() -> None:
    scheduler = make_scheduler()
    assert scheduler.add_request(make_request()) is None
    scheduler.schedule(0.0)
    with pytest.raises(AssertionError, match="book the step in flight first"):
        scheduler.schedule(0.0)


def test_a_step_took_the_time_since_the_one_before_was_over() -> None:
    """Steps of a second each, decided as early as possible: the model learns one second."""
    loop = Loop(max_num_seqs=1, max_num_batched_tokens=8)
    loop.add(4, max_tokens=100)
    loop.decide(0.0)
    for second in range(60):
        loop.decide(float(second))
        loop.collect(second + 1.0)
    target = loop.scheduler._running.decode_shape()
    assert loop.scheduler._step_time.predict(target) == pytest.approx(1.0, rel=0.02)
