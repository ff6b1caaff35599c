"""The worker's inside: who runs, who waits, which token is due when. Pure; time is an argument.

Blocks and prefix cache are the engine's own `KVCacheManager`, so a fake worker hits, evicts and
runs out of blocks as a real one does. Invariant: `running` hold blocks, `waiting` hold none.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass, field

from shoal.engine.core.config import CacheConfig
from shoal.engine.core.kv_cache_manager import KVCacheManager
from shoal.engine.core.request import Request
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.core.stats import SchedulerStats

from . import tokens
from .cost_model import CostModel


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeEngineConfig:
    """Bounds, in the engine's words."""

    cost: CostModel = field(default_factory=CostModel)
    max_num_seqs: int = 256
    max_num_waiting: int = 1024
    max_model_len: int = 32_768
    block_size: int = 16
    num_blocks: int = 65_536
    seed: int = 0
    """Of the answers' words."""


@dataclass(slots=True, eq=False)
class Sequence:
    """One answer in the making."""

    request: Request
    num_wanted: int
    state: int
    """Digest of the tokens so far."""
    due: float = 0.0
    """When its next token is due, if it runs."""
    epoch: int = 0
    """Raised whenever it stops running: entries of the heap from before are void."""
    pending: list[int] = field(default_factory=list)
    """Tokens made and not yet taken by its stream."""
    finished: bool = False


class FakeEngine:
    """Admits, emits, preempts, frees."""

    def __init__(self, config: FakeEngineConfig) -> None:
        self.config = config
        self.manager = KVCacheManager(
            CacheConfig(num_blocks=config.num_blocks, block_size=config.block_size),
            max_num_batched_tokens=config.max_model_len,
        )
        self.running: dict[Sequence, None] = {}
        """In the order of their admission."""
        self.waiting: deque[Sequence] = deque()
        self._heap: list[tuple[float, int, int, Sequence]] = []
        self._ticket = itertools.count()
        self._prefill_busy_until = 0.0
        self._num_preemptions = 0
        self._num_queries = 0
        self._num_hits = 0

    def add(
        self, request_id: str, prompt: list[int], *, max_tokens: int, now: float
    ) -> Sequence | None:
        """Take a request in; None when the queue is full.

        The caller has checked that prompt and answer fit into `max_model_len`.
        """
        if len(self.waiting) >= self.config.max_num_waiting:
            return None
        request = Request(
            request_id,
            prompt,
            sampling_params=SamplingParams(max_tokens=max_tokens, ignore_eos=True),
            arrival_time=now,
        )
        state = tokens.digest(prompt, self.config.seed)
        sequence = Sequence(request=request, num_wanted=max_tokens, state=state)
        self.waiting.append(sequence)
        self._admit(now)
        return sequence

    def abort(self, sequence: Sequence, now: float) -> None:
        """Free everything of a sequence; nothing happens when it has ended."""
        if sequence in self.running:
            self._stop(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        sequence.finished = True
        self._admit(now)

    @property
    def next_due(self) -> float | None:
        """When something will happen next; None when nothing runs."""
        heap = self._heap
        while heap and heap[0][2] != heap[0][3].epoch:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def emit(self, now: float) -> list[Sequence]:
        """Make every token that is due; the sequences that got one, each once."""
        changed: dict[Sequence, None] = {}
        while (due := self.next_due) is not None and due <= now:
            sequence = heapq.heappop(self._heap)[3]
            if self._make_token(sequence, now):
                changed[sequence] = None
        return list(changed)

    def fits(self, num_tokens: int) -> bool:
        """Whether a request of so many tokens can ever run alone."""
        return self.manager.peak_blocks(num_tokens) <= self.config.num_blocks - 1

    def stats(self) -> SchedulerStats:
        return SchedulerStats(
            num_running=len(self.running),
            num_waiting=len(self.waiting),
            kv_cache_usage=self.manager.usage,
            num_preemptions=self._num_preemptions,
            prefix_cache_queries=self._num_queries,
            prefix_cache_hits=self._num_hits,
        )

    def _admit(self, now: float) -> None:
        while self.waiting and len(self.running) < self.config.max_num_seqs:
            sequence = self.waiting[0]
            request = sequence.request
            computed = self.manager.get_computed_blocks(request)
            if self.manager.num_lacking_blocks(request, computed, reserve=0) > 0:
                return  # first come, first served: nobody overtakes
            self.waiting.popleft()
            self._start(sequence, now)

    def _start(self, sequence: Sequence, now: float) -> None:
        request, manager = sequence.request, self.manager
        computed = manager.get_computed_blocks(request)
        manager.admit(request, computed)
        num_uncached = request.num_tokens - computed.num_tokens
        allocated = manager.allocate_slots(request, num_uncached)
        assert allocated is not None, "the blocks were counted just now"
        manager.publish(request, request.num_tokens)
        request.num_computed_tokens = request.num_tokens
        if request.first_scheduled_time is None:
            request.first_scheduled_time = now
            request.num_cached_tokens = computed.num_tokens
            self._num_queries += request.num_tokens
            self._num_hits += computed.num_tokens
        self.running[sequence] = None
        cost = self.config.cost
        self._prefill_busy_until = cost.prefill_end(now, self._prefill_busy_until, num_uncached)
        self._plan(sequence, max(now, self._prefill_busy_until) + cost.ttft_s)

    def _plan(self, sequence: Sequence, due: float) -> None:
        sequence.due = due
        heapq.heappush(self._heap, (due, next(self._ticket), sequence.epoch, sequence))

    def _make_token(self, sequence: Sequence, now: float) -> bool:
        request = sequence.request
        while request.num_tokens > request.num_computed_tokens and (
            request.num_tokens > request.num_slots
        ):
            # The block for the newest token's KV. Without one, the latest admitted gives way.
            if self.manager.allocate_slots(request, 1) is not None:
                break
            victim = next(reversed(self.running))
            self._preempt(victim)
            if victim is sequence:
                return False
        request.num_computed_tokens = request.num_tokens
        token_id = tokens.next_token(sequence.state)
        sequence.state = tokens.extend(sequence.state, token_id)
        request.token_ids.append(token_id)
        sequence.pending.append(token_id)
        if request.num_output_tokens >= sequence.num_wanted:
            sequence.finished = True
            self._stop(sequence)
            self._admit(now)
        else:
            # From the planned time, not from now: a late timer makes one gap longer and the next
            # shorter, and no stream slower.
            self._plan(sequence, sequence.due + self.config.cost.itl(len(self.running)))
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self._num_preemptions += 1
        self._stop(sequence)
        self.waiting.appendleft(sequence)

    def _stop(self, sequence: Sequence) -> None:
        del self.running[sequence]
        sequence.epoch += 1
        self.manager.free(sequence.request)
