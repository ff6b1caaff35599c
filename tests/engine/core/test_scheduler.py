from __future__ import annotations

from typing import Any

import pytest

from shoal.engine.core.output import (
    ModelRunnerOutput,
    ReasonKind,
    RejectionKind,
    SchedulerOutput,
)
from shoal.engine.core.request import FinishReason, RequestStatus
from shoal.engine.core.scheduler import Scheduler
from tests.builders import EOS, FakeRunner, make_request, make_scheduler, run_to_end, step


def add(scheduler: Scheduler, *args: Any, **kwargs: Any) -> str:
    request = make_request(*args, **kwargs)
    assert scheduler.add_request(request) is None
    return request.request_id


def tokens(out: SchedulerOutput) -> list[int]:
    return list(out.num_scheduled_tokens.values())


def reasons(out: SchedulerOutput) -> dict[str, ReasonKind]:
    return {reason.request_id: reason.kind for reason in out.reasons}


def test_a_request_runs_prefill_then_one_token_a_step() -> None:
    scheduler, runner, seen = make_scheduler(), FakeRunner(), []
    add(scheduler, 10, max_tokens=4)
    while scheduler.has_unfinished_requests():
        out = scheduler.schedule(0.0)
        seen.append(tokens(out))
        scheduler.update_from_output(out, runner.execute_model(out), 0.0)
    assert seen == [[10], [1], [1], [1]]


def test_long_prompts_are_chunked_and_mixed_with_decodes() -> None:
    scheduler, runner, seen = make_scheduler(max_num_batched_tokens=16), FakeRunner(), []
    add(scheduler, 3, request_id="short", max_tokens=50)
    step(scheduler, runner)
    add(scheduler, 40, request_id="long", max_tokens=50)
    add(scheduler, 5, request_id="behind", max_tokens=50, arrival_time=1.0)
    for _ in range(4):
        out = scheduler.schedule(0.0)
        seen.append(dict(out.num_scheduled_tokens))
        scheduler.update_from_output(out, runner.execute_model(out), 0.0)
    assert seen == [
        {"short": 1, "long": 15},
        {"short": 1, "long": 15},
        {"short": 1, "long": 10, "behind": 5},
        {"short": 1, "long": 1, "behind": 1},
    ]


def test_decodes_come_first_in_the_execution_order() -> None:
    scheduler, runner = make_scheduler(), FakeRunner()
    add(scheduler, 60, request_id="long")
    step(scheduler, runner)  # 32 of 60
    add(scheduler, 4, request_id="b", arrival_time=1.0)
    step(scheduler, runner)  # 28 left of long, 4 of b
    add(scheduler, 9, request_id="c", arrival_time=2.0)
    out = scheduler.schedule(0.0)
    assert list(out.num_scheduled_tokens.items()) == [("long", 1), ("b", 1), ("c", 9)]


def test_eos_and_stop_tokens_end_with_stop_and_max_tokens_with_length() -> None:
    scheduler = make_scheduler()
    runner = FakeRunner(eos_after={"eos": 2, "ignores": 2})
    add(scheduler, request_id="eos")
    add(scheduler, request_id="ignores", ignore_eos=True, max_tokens=3)
    add(scheduler, request_id="stops", prompt=[1, 2], stop_token_ids=(1003,))
    finished: dict[str, FinishReason] = {}
    while scheduler.has_unfinished_requests():
        finished |= step(scheduler, runner).finish_reasons
    assert finished == {
        "eos": FinishReason.STOP,
        "ignores": FinishReason.LENGTH,
        "stops": FinishReason.STOP,
    }
    assert runner.tokens != {}  # rows are dropped with the next output
    runner.execute_model(scheduler.schedule(0.0))
    assert runner.tokens == {}


def test_the_first_step_reports_queue_time_and_cached_tokens() -> None:
    scheduler, runner = make_scheduler(), FakeRunner()
    prompt = list(range(500, 520))
    add(scheduler, prompt=prompt, request_id="a", arrival_time=1.0, max_tokens=1)
    out = step(scheduler, runner, now=3.5)
    assert (out.started["a"].queue_s, out.started["a"].num_cached_tokens) == (2.5, 0)
    add(scheduler, prompt=prompt, request_id="b", arrival_time=4.0, max_tokens=1)
    out = step(scheduler, runner, now=4.0)
    assert (out.started["b"].queue_s, out.started["b"].num_cached_tokens) == (0.0, 16)
    stats = scheduler.make_stats()
    assert (stats.prefix_cache_queries, stats.prefix_cache_hits) == (40, 16)


def test_requests_of_one_step_share_the_prefix_the_step_fills() -> None:
    scheduler, runner = make_scheduler(max_num_batched_tokens=64), FakeRunner()
    prompt = list(range(500, 520))
    for name in "abc":
        add(scheduler, prompt=prompt, request_id=name)
    out = scheduler.schedule(0.0)
    assert out.num_scheduled_tokens == {"a": 20, "b": 4, "c": 4}
    scheduler.update_from_output(out, runner.execute_model(out), 0.0)
    scheduler.check_integrity()


@pytest.mark.parametrize(
    ("prompt", "kwargs", "kind", "message"),
    [
        (0, {}, RejectionKind.INVALID, "prompt is empty"),
        (200, {}, RejectionKind.TOO_LONG, "200 tokens, but the context of this model is 200"),
        (50, {"max_tokens": 100}, RejectionKind.TOO_LONG, "needs 38 KV cache blocks"),
    ],
)
def test_what_can_never_fit_is_refused_with_the_numbers(
    prompt: int, kwargs: dict[str, int], kind: RejectionKind, message: str
) -> None:
    scheduler = make_scheduler(num_blocks=31)
    rejection = scheduler.add_request(make_request(prompt, **kwargs))
    assert rejection is not None
    assert rejection.kind is kind
    assert message in rejection.message
    assert rejection.retry_after_s is None
    assert not scheduler.has_unfinished_requests()


def test_what_fits_to_the_last_block_runs() -> None:
    scheduler = make_scheduler(num_blocks=31)  # 120 slots; the last token needs none
    request_id = add(scheduler, 100, max_tokens=21)
    assert len(run_to_end(scheduler, FakeRunner())[request_id]) == 21


def test_output_is_capped_by_the_models_length() -> None:
    scheduler = make_scheduler(max_model_len=20)
    request_id = add(scheduler, 15, max_tokens=100)
    assert len(run_to_end(scheduler, FakeRunner())[request_id]) == 5


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    scheduler = make_scheduler(max_num_waiting=2)
    add(scheduler, arrival_time=0.0)
    add(scheduler, arrival_time=1.0)
    rejection = scheduler.add_request(make_request(arrival_time=7.0))
    assert rejection is not None
    assert rejection.kind is RejectionKind.QUEUE_FULL
    assert rejection.retry_after_s == 7.0


def test_an_id_in_use_is_refused() -> None:
    scheduler = make_scheduler()
    add(scheduler, request_id="a")
    rejection = scheduler.add_request(make_request(request_id="a"))
    assert rejection is not None
    assert rejection.kind is RejectionKind.INVALID


def test_a_request_that_waits_too_long_times_out_and_is_reported_once() -> None:
    scheduler, runner = make_scheduler(max_num_seqs=1, queue_timeout_s=10.0), FakeRunner()
    add(scheduler, request_id="runs", max_tokens=50)
    add(scheduler, request_id="waits", arrival_time=0.5)
    step(scheduler, runner, now=9.0)
    out = scheduler.schedule(10.5)
    assert reasons(out) == {"waits": ReasonKind.QUEUE_TIMEOUT}
    result = scheduler.update_from_output(out, runner.execute_model(out), 10.5)
    assert result.finish_reasons == {"waits": FinishReason.TIMEOUT}
    assert step(scheduler, runner, now=99.0).finish_reasons == {}


def test_a_timeout_is_reported_even_when_nothing_runs() -> None:
    scheduler = make_scheduler(queue_timeout_s=10.0)
    add(scheduler, request_id="late")
    result = step(scheduler, FakeRunner(), now=10.0)
    assert result.finish_reasons == {"late": FinishReason.TIMEOUT}
    assert not scheduler.has_unfinished_requests()
    assert not scheduler.has_finished_requests()


@pytest.mark.parametrize("num_steps", [0, 1, 2, 5])
def test_an_abort_frees_everything_at_once(num_steps: int) -> None:
    scheduler, runner = make_scheduler(), FakeRunner()
    add(scheduler, 60, request_id="a", max_tokens=50)
    for _ in range(num_steps):
        step(scheduler, runner)
    scheduler.finish_requests(["a", "never heard of"], RequestStatus.FINISHED_ABORTED)
    assert scheduler.make_stats().kv_cache_usage == 0.0
    assert scheduler.has_finished_requests() == (num_steps > 0)
    assert step(scheduler, runner).req_ids == []
    assert runner.tokens == {}
    assert not scheduler.has_finished_requests()


def test_an_abort_while_the_step_runs_is_safe() -> None:
    scheduler, runner = make_scheduler(), FakeRunner()
    add(scheduler, request_id="a")
    out = scheduler.schedule(0.0)
    result = runner.execute_model(out)
    scheduler.finish_requests(["a"], RequestStatus.FINISHED_ABORTED)
    assert scheduler.update_from_output(out, result, 0.0).finish_reasons == {}
    scheduler.check_integrity()


def test_when_blocks_run_out_the_least_sunk_work_gives_way_and_says_for_whom() -> None:
    scheduler, runner = make_scheduler(num_blocks=13), FakeRunner()  # 48 slots
    add(scheduler, 30, request_id="much", max_tokens=15)
    add(scheduler, 12, request_id="little", max_tokens=8)
    kinds, told = [], []
    while scheduler.has_unfinished_requests():
        out = scheduler.schedule(0.0)
        kinds += [(r.kind, r.request_id, r.by) for r in out.reasons]
        result = scheduler.update_from_output(out, runner.execute_model(out), 0.0)
        told += [(r.kind, r.request_id, r.by) for r in result.setbacks]
        scheduler.check_integrity()
    assert (ReasonKind.PREEMPTED, "little", "much") in kinds
    assert told == [(ReasonKind.PREEMPTED, "little", "much")]  # the front end may log it
    assert scheduler.make_stats().num_preemptions == 1
    assert scheduler.make_stats().reasons["preempted"] == 1


def test_preempted_requests_resume_with_their_outputs_and_end_the_same() -> None:
    prompts = {name: [ord(name) * 100 + i for i in range(20)] for name in "abcd"}

    def outputs(num_blocks: int) -> tuple[dict[str, list[int]], int]:
        scheduler = make_scheduler(num_blocks=num_blocks)
        for name, prompt in prompts.items():
            add(scheduler, prompt=prompt, request_id=name, max_tokens=20)
        return run_to_end(scheduler, FakeRunner()), scheduler.make_stats().num_preemptions

    roomy, none = outputs(101)
    tight, some = outputs(17)
    assert none == 0
    assert some > 0
    assert tight == roomy


def test_nothing_is_admitted_past_a_request_that_does_not_fit() -> None:
    scheduler, runner = make_scheduler(num_blocks=13), FakeRunner()
    add(scheduler, 24, request_id="runs", max_tokens=20)
    step(scheduler, runner)
    add(scheduler, 30, request_id="big", arrival_time=1.0)
    add(scheduler, 2, request_id="small", arrival_time=2.0)
    out = scheduler.schedule(0.0)
    assert list(out.num_scheduled_tokens) == ["runs"]
    assert reasons(out) == {"big": ReasonKind.NO_BLOCKS}


def test_urgent_requests_do_not_wait_for_a_seat_held_by_unimportant_ones() -> None:
    scheduler, runner = make_scheduler(max_num_seqs=2), FakeRunner()
    add(scheduler, request_id="low-1", priority=5, max_tokens=50)
    add(scheduler, request_id="low-2", priority=5, max_tokens=50)
    step(scheduler, runner)
    add(scheduler, request_id="equal", priority=5, arrival_time=1.0)
    out = scheduler.schedule(0.0)
    assert reasons(out) == {"equal": ReasonKind.MAX_NUM_SEQS}
    scheduler.update_from_output(out, runner.execute_model(out), 0.0)
    add(scheduler, request_id="urgent", priority=0, arrival_time=2.0)
    out = scheduler.schedule(0.0)
    assert "urgent" in out.num_scheduled_tokens
    assert len(out.preempted_req_ids) == 1
    preempted = [r for r in out.reasons if r.kind is ReasonKind.PRIORITY]
    assert [(r.by, r.request_id) for r in preempted] == [("urgent", out.preempted_req_ids[0])]


def test_nobody_is_preempted_in_vain() -> None:
    scheduler, runner = make_scheduler(num_blocks=13, max_num_seqs=3), FakeRunner()
    add(scheduler, 36, request_id="urgent-too", priority=0, max_tokens=4)
    step(scheduler, runner)
    step(scheduler, runner)
    add(scheduler, 4, request_id="low", priority=5, max_tokens=4)
    step(scheduler, runner)
    add(scheduler, 40, request_id="urgent", priority=0, arrival_time=1.0)
    out = scheduler.schedule(0.0)
    assert out.preempted_req_ids == []
    assert "low" in out.num_scheduled_tokens


def test_a_window_lets_a_request_outgrow_the_cache() -> None:
    scheduler = make_scheduler(num_blocks=13, windows=(8,), max_num_batched_tokens=8)
    request_id = add(scheduler, 100, max_tokens=60)  # 160 tokens through 48 slots
    assert len(run_to_end(scheduler, FakeRunner(windows=(8,)))[request_id]) == 60


def test_a_runner_that_answers_in_another_order_is_fine() -> None:
    scheduler, runner = make_scheduler(), FakeRunner()
    for name in "abc":
        add(scheduler, request_id=name, max_tokens=2)
    while scheduler.has_unfinished_requests():
        out = scheduler.schedule(0.0)
        result = runner.execute_model(out)
        backwards = ModelRunnerOutput(result.req_ids[::-1], result.sampled_token_ids[::-1])
        scheduler.update_from_output(out, backwards, 0.0)
        scheduler.check_integrity()


def test_eos_is_a_token_like_others_inside_the_prompt() -> None:
    scheduler = make_scheduler()
    request_id = add(scheduler, prompt=[EOS, EOS, 5], max_tokens=3)
    assert len(run_to_end(scheduler, FakeRunner())[request_id]) == 3
