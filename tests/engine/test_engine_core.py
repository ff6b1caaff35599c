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
from tests.overlapping_runner import DelayedOutput, OverlappingRunner


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


class LoggingRunner(OverlappingRunner):
    """Writes down in what order the core submits and waits."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []

    def submit(self, out: SchedulerOutput) -> DelayedOutput:  # type: ignore[override]
        number = sum(entry.startswith("submit") for entry in self.log)
        self.log.append(f"submit {number}")
        pending = super().submit(out)
        result = pending.result

        def logged() -> ModelRunnerOutput:
            self.log.append(f"wait {number}")
            return result()

        pending.result = logged  # type: ignore[method-assign]
        return pending


def test_a_step_begins_before_the_one_before_it_is_waited_for() -> None:
    runner = LoggingRunner()
    core = EngineCore(make_scheduler(), runner, VirtualClock(), max_in_flight=2)
    core.add_request(make_request(request_id="a", max_tokens=3))
    tokens = []
    while core.has_work():
        tokens += [token for new in core.step().new_token_ids for token in new]
    assert len(tokens) == 3
    assert runner.log == [
        *("submit 0", "submit 1", "wait 0"),
        *("submit 2", "wait 1"),
        "wait 2",
        *("submit 3", "wait 3"),  # tells the runner of the end
    ]
    assert runner.tokens == {}


def test_one_in_flight_waits_for_each_step() -> None:
    runner = LoggingRunner()
    core = EngineCore(make_scheduler(), runner, VirtualClock())
    core.add_request(make_request(max_tokens=2))
    core.step()
    core.step()
    assert runner.log == ["submit 0", "wait 0", "submit 1", "wait 1"]


@pytest.mark.parametrize("max_in_flight", [0, 3])
def test_how_many_may_be_in_flight(max_in_flight: int) -> None:
    with pytest.raises(ValueError, match="max_in_flight must be between 1 and 2"):
        EngineCore(make_scheduler(), FakeRunner(), VirtualClock(), max_in_flight=max_in_flight)
