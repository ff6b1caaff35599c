"""No input may wedge the scheduler: adds, aborts, times and tiny caches in any order.

After every step the books must balance (`check_integrity`), and at the end every admitted
request must have ended, with exactly the tokens it would have got alone. All of it a second time
with steps that overlap: decided, aborted into and ended while the one before is in flight.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shoal.engine.core.output import ModelRunnerOutput, SchedulerOutput
from shoal.engine.core.request import FinishReason, Request, RequestStatus
from tests.builders import FakeRunner, make_request, make_scheduler
from tests.overlapping_runner import DelayedOutput, OverlappingRunner

STEMS = [list(range(5_000 + 100 * i, 5_050 + 100 * i)) for i in range(3)]
"""What prompts begin with: more than a small cache holds, so that they come and go."""
STOPS = tuple(range(1_000, 1_997, 6))
"""A sixth of all tokens that the fake runner samples."""


def expected_output(request: Request) -> list[int]:
    known = request.prompt_token_ids
    for _ in range(request.max_num_tokens - request.num_prompt_tokens):
        known.append(1000 + sum(known) % 997)
        if known[-1] in request.stop_token_ids:
            break
    return known[request.num_prompt_tokens :]


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(
        num_blocks=st.integers(2, 30),
        max_num_seqs=st.integers(1, 5),
        budget=st.integers(5, 24),
        block_size=st.sampled_from([1, 2, 4]),
        windows=st.sampled_from([(None,), (None,), (6,), (None, 3)]),
        caching=st.sampled_from([True, True, True, False]),
        timeout_s=st.sampled_from([None, 20.0]),
        seconds_per_step=st.sampled_from([0.0, 0.01, 1.0]),
        seconds_per_token=st.sampled_from([0.0, 0.001, 0.1]),
        itl_target_s=st.sampled_from([None, None, 1e-6, 0.02]),
        num_host_blocks=st.sampled_from([0, 2, 12, 60]),
        max_saves=st.sampled_from([1, 3, 100]),
    )
    def start(
        self,
        num_blocks: int,
        max_num_seqs: int,
        budget: int,
        block_size: int,
        windows: tuple[int | None, ...],
        caching: bool,
        timeout_s: float | None,
        seconds_per_step: float,
        seconds_per_token: float,
        itl_target_s: float | None,
        num_host_blocks: int,
        max_saves: int,
    ) -> None:
        self.scheduler = make_scheduler(
            num_blocks=num_blocks,
            block_size=block_size,
            windows=windows,
            enable_prefix_caching=caching,
            num_host_blocks=num_host_blocks if caching else 0,
            max_saves_per_step=max_saves,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=budget,
            max_model_len=60,
            max_num_waiting=6,
            queue_timeout_s=timeout_s,
            itl_target_s=itl_target_s,
        )
        self.runner = self.make_runner(block_size=block_size, windows=windows)
        self.max_num_seqs, self.budget = max_num_seqs, budget
        self.seconds_per_step, self.seconds_per_token = seconds_per_step, seconds_per_token
        self.now = 0.0
        self.live: dict[str, Request] = {}
        self.outputs: dict[str, list[int]] = {}
        self.gone: list[str] = []
        self.num_added = 0

    def make_runner(self, **shape: Any) -> FakeRunner:
        return FakeRunner(**shape)

    @rule(
        num_prompt_tokens=st.integers(0, 45),
        stem=st.sampled_from(STEMS),
        shared=st.sampled_from([0, 5, 20, 45]),
        max_tokens=st.integers(1, 20),
        priority=st.integers(0, 2),
        salt=st.sampled_from([None, None, "s"]),
        stops=st.booleans(),
        reuses_id=st.booleans(),
    )
    def add(
        self,
        num_prompt_tokens: int,
        stem: list[int],
        shared: int,
        max_tokens: int,
        priority: int,
        salt: str | None,
        stops: bool,
        reuses_id: bool,
    ) -> None:
        self.num_added += 1
        prompt = [100_000 + self.num_added * 1_000 + i for i in range(num_prompt_tokens)]
        prompt[:shared] = stem[: min(shared, len(prompt))]
        request = make_request(
            prompt=prompt,
            arrival_time=self.now,
            priority=priority,
            cache_salt=salt,
            max_tokens=max_tokens,
            stop_token_ids=STOPS if stops else (),
            request_id=self.gone[-1] if reuses_id and self.gone else f"r{self.num_added}",
        )
        if self.scheduler.add_request(request) is None:
            self.live[request.request_id] = request
            self.outputs.pop(request.request_id, None)

    @rule(data=st.data())
    def abort(self, data: Any) -> None:
        if self.live:
            request_id = data.draw(st.sampled_from(sorted(self.live)))
            self.scheduler.finish_requests([request_id], RequestStatus.FINISHED_ABORTED)
            del self.live[request_id]
            self.gone.append(request_id)

    @rule(seconds=st.floats(0.0, 15.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(num_steps=st.integers(1, 6))
    def run(self, num_steps: int) -> None:
        for _ in range(num_steps):
            self.step()

    def step(self) -> None:
        out = self.scheduler.schedule(self.now)
        self.look_at(out)
        self.pass_time(out)
        computed = self.runner.execute_model(out)
        self.look_at_rows(out)
        self.book(out, computed)

    def look_at(self, out: SchedulerOutput) -> None:
        assert sum(out.num_scheduled_tokens.values()) == out.total_num_scheduled_tokens
        assert out.total_num_scheduled_tokens <= self.budget
        assert len(out.num_scheduled_tokens) <= self.max_num_seqs
        assert not set(out.preempted_req_ids) & set(out.num_scheduled_tokens)
        # However long steps take, somebody advances whenever somebody runs or came to run.
        if self.scheduler.make_stats().num_running and self.expects_progress:
            assert out.total_num_scheduled_tokens

    def look_at_rows(self, out: SchedulerOutput) -> None:
        """Nobody computes the last token that it may have, nor has a slot for it."""
        for request_id in out.num_scheduled_tokens:
            most = self.live[request_id].max_num_tokens - 1
            assert self.runner.num_computed[request_id] <= most
            for table in self.runner.tables[request_id]:
                assert len(table) <= -(-most // self.runner.block_size)

    expects_progress = True

    def pass_time(self, out: SchedulerOutput) -> None:
        self.now += self.seconds_per_step + self.seconds_per_token * out.total_num_scheduled_tokens

    def book(self, out: SchedulerOutput, computed: ModelRunnerOutput) -> None:
        result = self.scheduler.update_from_output(out, computed, self.now)
        self.scheduler.check_integrity()
        for request_id, new in zip(result.req_ids, result.new_token_ids, strict=True):
            assert request_id in self.live, "nobody hears of a token after the last"
            self.outputs.setdefault(request_id, []).extend(new)
        for request_id, reason in result.finish_reasons.items():
            if reason is FinishReason.TIMEOUT:
                assert request_id not in self.outputs
                self.live.pop(request_id, None)  # or it was aborted before this could be told
            else:
                assert self.outputs[request_id] == expected_output(self.live.pop(request_id))
            self.gone.append(request_id)

    @invariant()
    def books_balance(self) -> None:
        if hasattr(self, "scheduler"):
            self.scheduler.check_integrity()

    def teardown(self) -> None:
        """Liveness: with nothing new coming in, everything ends, and nothing is left behind."""
        if not hasattr(self, "scheduler"):
            return
        work = sum(r.max_num_tokens for r in self.live.values())
        for _ in range(20 * work + 20):
            if not self.is_busy():
                break
            self.step()
        assert not self.live, f"never ended: {self.live}"
        assert self.scheduler.make_stats().kv_cache_usage == 0.0
        while self.is_busy() or self.scheduler.has_finished_requests():
            self.step()
        assert self.runner.tokens == {}

    def is_busy(self) -> bool:
        return self.scheduler.has_unfinished_requests()


class OverlapMachine(SchedulerMachine):
    """A step is decided while the one before is in flight, and the world turns in between."""

    runner: OverlappingRunner
    expects_progress = False  # ahead it may have to wait for the step in flight

    def make_runner(self, **shape: Any) -> OverlappingRunner:
        self.in_flight: deque[tuple[SchedulerOutput, DelayedOutput]] = deque()
        return OverlappingRunner(**shape)

    def step(self) -> None:
        self.decide()
        self.decide()
        self.collect()

    @rule()
    def decide(self) -> None:
        """Submit a step, if one may be."""
        out: SchedulerOutput | None
        if not self.in_flight:
            out = self.scheduler.schedule(self.now)
            assert out.total_num_scheduled_tokens or not self.scheduler.make_stats().num_running
        elif len(self.in_flight) < 2:
            out = self.scheduler.schedule_ahead(self.now)
            assert out is None or not out.preempted_req_ids
        else:
            return
        if out is not None:
            self.look_at(out)
            self.in_flight.append((out, self.runner.submit(out)))
            self.look_at_rows(out)
        self.scheduler.check_integrity()

    @rule()
    def collect(self) -> None:
        """Hear of the oldest step, if there is one."""
        if self.in_flight:
            out, pending = self.in_flight.popleft()
            self.pass_time(out)
            self.book(out, pending.result())

    def is_busy(self) -> bool:
        return bool(self.in_flight) or super().is_busy()


SchedulerMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)
TestScheduler = SchedulerMachine.TestCase

OverlapMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestOverlap = OverlapMachine.TestCase
