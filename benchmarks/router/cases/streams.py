"""256 streams of 64 tokens at 50 tokens/s each: what a streamed token costs, and what it waits."""

from __future__ import annotations

from ..contestants import Contestant
from ..loads.percentiles import percentile
from ..loads.requests import chat_request
from ..loads.streams import streams
from ..programs import BenchFailed
from ..running_router import running
from ..stage import Figures, Stage, drive
from ..usage import cpu_s, pss_bytes
from ..workers import MODEL, Costs, mock_workers

NUM_STREAMS = 256
NUM_TOKENS = 64
COSTS = Costs(ttft_s=0.05, itl_s=0.02)
STREAM_S = COSTS.ttft_s + (NUM_TOKENS - 1) * COSTS.itl_s


def measure(stage: Stage, contestant: Contestant) -> Figures:
    num_rounds = stage.sized(5, 2)
    with (
        mock_workers(stage.programs.mock_worker, COSTS, stage.folder) as workers,
        running(contestant, workers, stage.folder) as router,
    ):
        request = chat_request(MODEL, max_tokens=NUM_TOKENS, stream=True, headers=router.headers)
        load = streams(
            router.ports, request, num_clients=NUM_STREAMS, num_rounds=num_rounds,
            num_tokens=NUM_TOKENS, spread_s=STREAM_S, timeout_s=30,
        )  # fmt: skip
        before_s = cpu_s(router.pids)
        outcome = drive(load, bound_s=30 + 5 * STREAM_S * num_rounds)
        used_s = cpu_s(router.pids) - before_s
        if not outcome.ttfts_s:
            raise BenchFailed(f"all {outcome.num_dropped} streams were dropped")
        figures = {
            "ttft_p50_ms": percentile(outcome.ttfts_s, 0.5) * 1e3,
            "ttft_p99_ms": percentile(outcome.ttfts_s, 0.99) * 1e3,
            "gap_p50_ms": percentile(outcome.gaps_s, 0.5) * 1e3,
            "gap_p99_ms": percentile(outcome.gaps_s, 0.99) * 1e3,
            "dropped": float(outcome.num_dropped),
            "streams": float(len(outcome.ttfts_s)),
        }
        if router.pids:
            figures |= {
                "cpu_ms_per_1k_tokens": used_s / outcome.num_tokens * 1e6,
                "pss_mib": pss_bytes(router.pids) / (1 << 20),
            }
        return figures
