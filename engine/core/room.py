"""What there is room for beside the running requests: seats, and blocks of the KV cache."""

from __future__ import annotations

from math import ceil

from .config import SchedulerConfig
from .kv_cache_manager import ComputedBlocks, KVCacheManager
from .output import ReasonKind
from .request import Request
from .request_queue import RequestQueue
from .running import RunningRequests

ADMISSION_HEADROOM = 0.01
"""Share of the pool a newcomer leaves free for decodes that run beside it: without it the
admission that fills the last block is followed at once by a preemption."""


class Room:
    """Looks at what runs and what is free; changes nothing."""

    def __init__(
        self, config: SchedulerConfig, kv: KVCacheManager, running: RunningRequests
    ) -> None:
        self._max_num_seqs = config.max_num_seqs
        self._kv = kv
        self._running = running

    def num_lacking_blocks(self, request: Request, computed: ComputedBlocks) -> int:
        """Blocks too few for a newcomer with this cached prefix; 0 or less: it fits."""
        return self._kv.num_lacking_blocks(request, computed, reserve=self._reserved_blocks())

    def obstacle(self, num_lacking: int) -> ReasonKind | None:
        """What is in the way of a newcomer that lacks so many blocks."""
        if num_lacking > 0:
            return ReasonKind.NO_BLOCKS
        if len(self._running) >= self._max_num_seqs:
            return ReasonKind.MAX_NUM_SEQS
        return None

    def num_startable(self, waiting: RequestQueue) -> int:
        """Waiting requests that have a seat; none if the first of them finds no blocks."""
        head = waiting.peek()
        if head is None or self.num_lacking_blocks(head, ComputedBlocks([], 0)) > 0:
            return 0
        return min(len(waiting), self._max_num_seqs - len(self._running))

    def _reserved_blocks(self) -> int:
        """Blocks that a newcomer must leave: what running prefills still need, and headroom."""
        if not len(self._running):
            return 0
        kv = self._kv
        owed = sum(
            max(kv.peak_blocks(r.num_tokens) - kv.num_held(r), 0)
            for r in self._running.prefilling.values()
        )
        return owed + ceil(kv.num_usable_blocks * ADMISSION_HEADROOM)
