"""Steps captured as CUDA graphs: one launch instead of some 300.

A step of an 8 B model is 32 layers of 9 kernels. Launched one by one from Python they take longer
than a small step needs to compute; as a graph they follow one another without the host.
What a graph reads and writes has fixed addresses: the views of the staging buffer, the KV cache,
and the buffer of hidden states.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..sources.progress import Progress
from .graph_buckets import BucketTable, CaptureLimits, GraphBucket

STAGE = "capturing CUDA graphs"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureReport:
    """What capturing came to."""

    num_captured: int
    num_planned: int
    seconds: float
    num_bytes: int
    """Device memory that the graphs take."""


class StepGraphs:
    """The captured graphs. `stage(bucket)` puts a step of nothing but padding in place, and
    `run(bucket)` launches it, without asking the device."""

    def __init__(
        self,
        *,
        stage: Callable[[GraphBucket], None],
        run: Callable[[GraphBucket], None],
        device: torch.device,
    ) -> None:
        self._stage = stage
        self._run = run
        self._device = device
        self._graphs: dict[GraphBucket, torch.cuda.CUDAGraph] = {}
        self._table = BucketTable(())

    def capture(
        self, order: Sequence[GraphBucket], limits: CaptureLimits, progress: Progress
    ) -> CaptureReport:
        """Capture graphs in this order until all are there or a limit is reached.

        Each step runs once before it is captured: that compiles what must be compiled, and lets
        the libraries allocate what they keep. All graphs share one memory pool, since no two of
        them run at once.
        """
        started, free_before = time.monotonic(), self._free_bytes()
        pool = torch.cuda.graph_pool_handle()
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        for num_captured, bucket in enumerate(order):
            progress.update(STAGE, num_captured, len(order))
            elapsed_s, used = time.monotonic() - started, free_before - self._free_bytes()
            if not limits.allow(elapsed_s=elapsed_s, used_bytes=used, num_captured=num_captured):
                break
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.stream(stream):
                self._stage(bucket)
                self._run(bucket)
                stream.synchronize()
                graph.capture_begin(pool=pool)
                try:
                    self._run(bucket)
                finally:
                    graph.capture_end()
            self._graphs[bucket] = graph
        torch.cuda.current_stream(self._device).wait_stream(stream)
        torch.cuda.empty_cache()  # what the steps before their capture used on that stream
        self._table = BucketTable(self._graphs)
        return CaptureReport(
            num_captured=len(self._graphs),
            num_planned=len(order),
            seconds=time.monotonic() - started,
            num_bytes=max(free_before - self._free_bytes(), 0),
        )

    def find(
        self, *, num_tokens: int, num_reqs: int, max_query_len: int, max_seq_len: int
    ) -> GraphBucket | None:
        """The graph for a step of these sizes; None when there is none that holds it."""
        return self._table.find(
            num_tokens=num_tokens,
            num_reqs=num_reqs,
            max_query_len=max_query_len,
            max_seq_len=max_seq_len,
        )

    def replay(self, bucket: GraphBucket) -> None:
        """Queue the step of `bucket` over what is staged now."""
        self._graphs[bucket].replay()

    def _free_bytes(self) -> int:
        return torch.cuda.mem_get_info(self._device)[0]
