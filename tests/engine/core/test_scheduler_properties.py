"""No input may wedge the scheduler: adds, aborts, times and tiny caches in any order.

After every step the books must balance (`check_integrity`), and at the end every admitted
request must have ended, with exactly the tokens it would have got alone.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shoal.engine.core.request import FinishReason, Request, RequestStatus
from tests.builders import FakeRunner, make_request, make_scheduler

SHARED = list(range(5_000, 5_200))


def expected_output(request: Request) -> list[int]:
    known = request.prompt_token_ids
    for _ in range(request.max_num_tokens - request.num_prompt_tokens):
        known.append(1000 + sum(known) % 997)
    return known[request.num_prompt_tokens :]


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(
        num_blocks=st.integers(2, 30),
        max_num_seqs=st.integers(1, 5),
        budget=st.integers(5, 24),
        block_size=st.sampled_from([1, 2, 4]),
        windows=st.sampled_from([(None,), (None,), (6,), (None, 3)]),
        caching=st.booleans(),
        timeout_s=st.sampled_from([None, 20.0]),
        seconds_per_step=st.sampled_from([0.0, 0.01, 1.0]),
        seconds_per_token=st.sampled_from([0.0, 0.001, 0.1]),
        itl_target_s=st.sampled_from([None, None, 1e-6, 0.02]),
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
    ) -> None:
        self.scheduler = make_scheduler(
            num_blocks=num_blocks,
            block_size=block_size,
            windows=windows,
            enable_prefix_caching=caching,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=budget,
            max_model_len=60,
            max_num_waiting=6,
            queue_timeout_s=timeout_s,
            itl_target_s=itl_target_s,
        )
        self.runner = FakeRunner(block_size=block_size, windows=windows)
        self.max_num_seqs, self.budget = max_num_seqs, budget
        self.seconds_per_step, self.seconds_per_token = seconds_per_step, seconds_per_token
        self.now = 0.0
        self.live: dict[str, Request] = {}
        self.outputs: dict[str, list[int]] = {}

    @rule(
        num_prompt_tokens=st.integers(0, 45),
        shared=st.integers(0, 30),
        max_tokens=st.integers(1, 20),
        priority=st.integers(0, 2),
        salt=st.sampled_from([None, None, "s"]),
    )
    def add(
        self, num_prompt_tokens: int, shared: int, max_tokens: int, priority: int, salt: str | None
    ) -> None:
        prompt = make_request(num_prompt_tokens).prompt_token_ids
        prompt[:shared] = SHARED[: min(shared, len(prompt))]
        request = make_request(
            prompt=prompt,
            arrival_time=self.now,
            priority=priority,
            cache_salt=salt,
            max_tokens=max_tokens,
        )
        if self.scheduler.add_request(request) is None:
            self.live[request.request_id] = request

    @rule(data=st.data())
    def abort(self, data: Any) -> None:
        if self.live:
            request_id = data.draw(st.sampled_from(sorted(self.live)))
            self.scheduler.finish_requests([request_id], RequestStatus.FINISHED_ABORTED)
            del self.live[request_id]

    @rule(seconds=st.floats(0.0, 15.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(num_steps=st.integers(1, 6))
    def run(self, num_steps: int) -> None:
        for _ in range(num_steps):
            self.step()

    def step(self) -> None:
        out = self.scheduler.schedule(self.now)
        assert sum(out.num_scheduled_tokens.values()) == out.total_num_scheduled_tokens
        assert out.total_num_scheduled_tokens <= self.budget
        assert len(out.num_scheduled_tokens) <= self.max_num_seqs
        assert not set(out.preempted_req_ids) & set(out.num_scheduled_tokens)
        # However long steps take, somebody advances whenever somebody runs or came to run.
        if self.scheduler.make_stats().num_running:
            assert out.total_num_scheduled_tokens
        self.now += self.seconds_per_step + self.seconds_per_token * out.total_num_scheduled_tokens
        result = self.scheduler.update_from_output(out, self.runner.execute_model(out), self.now)
        self.scheduler.check_integrity()
        for request_id, new in zip(result.req_ids, result.new_token_ids, strict=True):
            if request_id in self.live:
                self.outputs.setdefault(request_id, []).extend(new)
        for request_id, reason in result.finish_reasons.items():
            request = self.live.pop(request_id)
            if reason is FinishReason.TIMEOUT:
                assert request_id not in self.outputs
            else:
                assert self.outputs[request_id] == expected_output(request)

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
            if not self.scheduler.has_unfinished_requests():
                break
            self.step()
        assert not self.live, f"never ended: {self.live}"
        assert self.scheduler.make_stats().kv_cache_usage == 0.0
        self.step()
        assert self.runner.tokens == {}


SchedulerMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)
TestScheduler = SchedulerMachine.TestCase
