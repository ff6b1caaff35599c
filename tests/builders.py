"""Builders shared by tests: requests, schedulers and a runner that needs no model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from shoal.engine.core.config import CacheConfig, KVCacheGroup, SchedulerConfig
from shoal.engine.core.output import (
    BlockCopies,
    EngineCoreOutputs,
    ModelRunnerOutput,
    SchedulerOutput,
)
from shoal.engine.core.request import Request
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.core.scheduler import Scheduler
from shoal.engine.runner.pending import Computed

EOS = 1
_ids = itertools.count()


def make_request(
    num_prompt_tokens: int = 4,
    *,
    prompt: Sequence[int] | None = None,
    request_id: str | None = None,
    arrival_time: float = 0.0,
    priority: int = 0,
    cache_salt: str | None = None,
    adapter: str | None = None,
    **sampling: Any,
) -> Request:
    """A request whose prompt, unless given, is unlike that of every other request."""
    number = next(_ids)
    if prompt is None:
        prompt = [100_000 + number * 1_000 + i for i in range(num_prompt_tokens)]
    return Request(
        # Of one width: ties go by id, and "r10" would come before "r9".
        request_id if request_id is not None else f"r{number:07}",
        prompt,
        sampling_params=SamplingParams(**{"max_tokens": 8, **sampling}),
        arrival_time=arrival_time,
        eos_token_ids=(EOS,),
        priority=priority,
        cache_salt=cache_salt,
        adapter=adapter,
    )


def make_scheduler(
    *,
    num_blocks: int = 101,
    block_size: int = 4,
    windows: Sequence[int | None] = (None,),
    enable_prefix_caching: bool = True,
    num_host_blocks: int = 0,
    max_saves_per_step: int = 512,
    **config: Any,
) -> Scheduler:
    """A scheduler over 100 usable blocks of 4 tokens unless told otherwise."""
    defaults = {"max_num_seqs": 8, "max_num_batched_tokens": 32, "max_model_len": 200}
    return Scheduler(
        SchedulerConfig(**{**defaults, **config}),
        CacheConfig(
            num_blocks=num_blocks,
            block_size=block_size,
            enable_prefix_caching=enable_prefix_caching,
            num_host_blocks=num_host_blocks,
            max_saves_per_step=max_saves_per_step,
            groups=tuple(KVCacheGroup(sliding_window=window) for window in windows),
        ),
    )


class FakeRunner:
    """Samples `1000 + sum(known tokens) % 997` for whoever completes its known tokens.

    It keeps what a real runner keeps and checks the contract: nobody is scheduled without a row,
    past its tokens or past its block table. Its KV cache holds, per group and slot, a hash of the
    tokens up to there; all writes of a step come first, then every scheduled request must find
    its own history wherever its attention would look.
    """

    def __init__(
        self,
        *,
        block_size: int = 4,
        windows: Sequence[int | None] = (None,),
        eos_after: dict[str, int] | None = None,
    ) -> None:
        self.block_size = block_size
        self.windows = windows
        self.eos_after = eos_after or {}
        self.tokens: dict[str, list[int]] = {}
        self.num_computed: dict[str, int] = {}
        self.tables: dict[str, list[list[int]]] = {}
        self.kv: dict[tuple[int, int, int], int] = {}
        self.host_kv: dict[int, dict[tuple[int, int], int]] = {}
        self.num_outputs: dict[str, int] = {}

    def submit(self, out: SchedulerOutput) -> Computed[ModelRunnerOutput]:
        return Computed(self.execute_model(out))

    def execute_model(self, out: SchedulerOutput) -> ModelRunnerOutput:
        for request_id in (*out.finished_req_ids, *out.preempted_req_ids):
            for rows in (self.tokens, self.num_computed, self.tables):
                del rows[request_id]
        for new in out.scheduled_new_reqs:
            assert new.request_id not in self.tokens
            self.tokens[new.request_id] = list(new.token_ids)
            self.num_computed[new.request_id] = new.num_computed_tokens
            self.tables[new.request_id] = [list(table) for table in new.block_ids]
        for request_id, new_ids in out.new_block_ids.items():
            for table, ids in zip(self.tables[request_id], new_ids, strict=True):
                table += ids
        if out.copies is not None:
            self._copy(out.copies)
        for request_id, num_tokens in out.num_scheduled_tokens.items():
            self._write(request_id, num_tokens)
        sampled = [self._read(request_id, n) for request_id, n in out.num_scheduled_tokens.items()]
        return ModelRunnerOutput(req_ids=list(out.num_scheduled_tokens), sampled_token_ids=sampled)

    def _copy(self, copies: BlockCopies) -> None:
        """Move whole blocks: what is in them of every group, and of no slot that is empty."""
        slots = [(g, i) for g in range(len(self.windows)) for i in range(self.block_size)]
        for block_id, host_id in copies.saves:
            kept = {(g, i): self.kv.get((g, block_id, i)) for g, i in slots}
            self.host_kv[host_id] = {k: v for k, v in kept.items() if v is not None}
        for host_id, block_id in copies.loads:
            for g, i in slots:
                self.kv.pop((g, block_id, i), None)
            for (g, i), value in self.host_kv[host_id].items():
                self.kv[g, block_id, i] = value

    def _history(self, request_id: str) -> list[int]:
        tokens = self.tokens[request_id]
        return list(itertools.accumulate(tokens, lambda h, token: hash((h, token)), initial=0))[1:]

    def _slot(self, request_id: str, group: int, position: int) -> tuple[int, int, int]:
        """Every slot that attention reads or a token is written to, when it is."""
        block_id = self.tables[request_id][group][position // self.block_size]
        return group, block_id, position % self.block_size

    def _write(self, request_id: str, num_tokens: int) -> None:
        start, history = self.num_computed[request_id], self._history(request_id)
        assert 0 < num_tokens <= len(history) - start
        for group in range(len(self.windows)):
            for position in range(start, start + num_tokens):
                slot = self._slot(request_id, group, position)
                assert slot[1] != 0, "the null block is never written"
                self.kv[slot] = history[position]

    def _read(self, request_id: str, num_tokens: int) -> list[int]:
        start, history = self.num_computed[request_id], self._history(request_id)
        end = self.num_computed[request_id] = start + num_tokens
        for group, window in enumerate(self.windows):
            first = 0 if window is None else max(start - window + 1, 0)
            for position in range(first, end):
                found = self.kv[self._slot(request_id, group, position)]
                assert found == history[position], f"foreign KV at {position} of {request_id}"
        tokens = self.tokens[request_id]
        if end < len(tokens):
            return []
        count = self.num_outputs[request_id] = self.num_outputs.get(request_id, 0) + 1
        token = EOS if self.eos_after.get(request_id) == count else 1000 + sum(tokens) % 997
        tokens.append(token)
        return [token]


def step(scheduler: Scheduler, runner: FakeRunner, now: float = 0.0) -> EngineCoreOutputs:
    """One step of the loop, with the books checked after it."""
    out = scheduler.schedule(now)
    result = scheduler.update_from_output(out, runner.execute_model(out), now)
    scheduler.check_integrity()
    return result


def run_to_end(
    scheduler: Scheduler, runner: FakeRunner, *, max_steps: int = 10_000
) -> dict[str, list[int]]:
    """Step until nothing is left; the output tokens by request. Fails when it never ends."""
    outputs: dict[str, list[int]] = {}
    for _ in range(max_steps):
        if not scheduler.has_unfinished_requests():
            return outputs
        result = step(scheduler, runner)
        for request_id, new in zip(result.req_ids, result.new_token_ids, strict=True):
            outputs.setdefault(request_id, []).extend(new)
    raise AssertionError(f"not done after {max_steps} steps: {scheduler.make_stats()}")
