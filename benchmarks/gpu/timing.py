"""Time on the device: events around replays of a CUDA graph, medians, rotating inputs."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch

from .case import Call

TARGET_MS = 10.0
"""One timed stretch: long beside the events' resolution and the launch of a graph."""
STRETCHES = 9
MAX_CALLS = 200
HEAD_START_CYCLES = 3_000_000
"""Some 1.7 ms that the device spins before a stretch, while the host queues it: an idle device
would begin to wait for the host right after the first event, and a launch of a graph of 200 short
kernels takes the host 0.1 to 1 ms."""


def median_us(call: Call, *, num_inputs: int = 1, capturable: bool = True) -> float:
    """Median device time of one call in microseconds.

    A stretch holds a whole number of rounds through the inputs. Captured in a graph, its calls
    follow one another without the host; a call that cannot be captured is launched by the host.
    """
    for i in range(num_inputs):  # compiles, and allocates what the call keeps
        call(i)
    once_ms = _stretch_ms(lambda: [call(i) for i in range(num_inputs)]) / num_inputs
    calls = max(min(int(TARGET_MS / max(once_ms, 1e-3)), MAX_CALLS), 3)
    calls = -(-calls // num_inputs) * num_inputs

    def stretch() -> None:
        for i in range(calls):
            call(i % num_inputs)

    replay = _captured(stretch) if capturable else stretch
    replay()
    return median(_stretch_ms(replay) for _ in range(STRETCHES)) * 1e3 / calls


def _captured(stretch: Callable[[], None]) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        stretch()
    return graph.replay


def _stretch_ms(run: Callable[[], object]) -> float:
    start, end = (
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(2)
    )
    torch.cuda.synchronize()
    torch.cuda._sleep(HEAD_START_CYCLES)  # type: ignore[no-untyped-call]
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end))
