"""The step over a fake runner and a clock that stands still."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.clock import VirtualClock
from shoal.engine.core.output import ModelRunnerOutput, RejectionKind, SchedulerOutput
from shoal.engine.core.request import FinishReason
from shoal.engine.engine_core import EngineCore
from shoal.engine.runner.pending import Pending
from tests.builders import FakeRunner, make_request, make_scheduler


def make_core(clock: VirtualClock | None = None, **scheduler: Any) -> EngineCore:
    return EngineCore(make_scheduler(**scheduler), FakeRunner(), clock or VirtualClock())


def test_a_request_runs_to_its_end() -> None:
    core = make_core()
    assert not core.has_work()
    assert core.add_request(make_request(request_id="a", max_tokens=3)) is None
    tokens, reasons = [], {}
    while core.has_work():
        outputs = core.step()
        tokens += [token for new in outputs.new_token_ids for token in new]
        reasons |= outputs.finish_reasons
    assert len(tokens) == 3
    assert reasons == {"a": FinishReason.LENGTH}
    # Three steps that sample, and one that tells the runner of the end.
    assert core.num_steps == 4


def test_a_refusal_is_a_value() -> None:
    rejection = make_core(max_model_len=8).add_request(make_request(9))
    assert rejection is not None
    assert rejection.kind is RejectionKind.TOO_LONG


def test_abort_frees_at_once_and_one_step_tells_the_runner() -> None:
    runner = FakeRunner()
    core = EngineCore(make_scheduler(), runner, VirtualClock())
    core.add_request(make_request(request_id="a"))
    core.step()
    core.abort(["a", "never seen"])
    assert core.stats().num_running == 0
    assert core.stats().kv_cache_usage == 0.0
    assert core.has_work()
    assert core.step().req_ids == []
    assert not core.has_work()
    assert runner.tokens == {}


def test_the_clock_decides_on_queue_deadlines() -> None:
    clock = VirtualClock()
    core = make_core(clock, max_num_seqs=1, queue_timeout_s=5.0)
    core.add_request(make_request(request_id="runs", max_tokens=50))
    core.step()
    core.add_request(make_request(request_id="waits"))
    clock.advance(5.1)
    assert core.step().finish_reasons == {"waits": FinishReason.TIMEOUT}


def test_an_exception_of_the_runner_is_not_hidden() -> None:
    class BrokenRunner:
        def submit(self, scheduler_output: SchedulerOutput) -> Pending[ModelRunnerOutput]:
            raise RuntimeError("out of memory")

    core = EngineCore(make_scheduler(), BrokenRunner(), VirtualClock())
    core.add_request(make_request())
    with pytest.raises(RuntimeError, match="out of memory"):
        core.step()
