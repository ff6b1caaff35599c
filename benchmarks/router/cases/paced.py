"""A steady 300 requests a second: what one request costs when the router is far from its limit."""

from __future__ import annotations

from ..contestants import Contestant
from ..loads.paced import paced
from ..loads.percentiles import percentile
from ..loads.requests import chat_request
from ..running_router import running
from ..stage import Figures, Stage, drive
from ..usage import cpu_s, pss_bytes
from ..workers import MODEL, Costs, mock_workers

RATE = 300
NUM_CLIENTS = 16
WARM_UP_S = 1.0


def measure(stage: Stage, contestant: Contestant) -> Figures:
    duration_s = stage.lasting(6.0, 2.0)
    with (
        mock_workers(stage.programs.mock_worker, Costs(), stage.folder) as workers,
        running(contestant, workers, stage.folder) as router,
    ):
        used_s = 0.0

        def on_warm() -> None:
            nonlocal used_s
            used_s = cpu_s(router.pids)

        request = chat_request(MODEL, max_tokens=1, stream=False, headers=router.headers)
        load = paced(
            router.ports, request, rate=RATE, warm_up_s=WARM_UP_S, duration_s=duration_s,
            num_clients=NUM_CLIENTS, on_warm=on_warm,
        )  # fmt: skip
        outcome = drive(load, bound_s=duration_s + 30)
        used_s = cpu_s(router.pids) - used_s
        figures = {
            "p50_ms": percentile(outcome.latencies_s, 0.5) * 1e3,
            "p99_ms": percentile(outcome.latencies_s, 0.99) * 1e3,
            "failed": float(outcome.num_failed),
        }
        if router.pids:
            figures |= {
                "cpu_us_per_request": used_s / outcome.num_requests * 1e6,
                "pss_mib": pss_bytes(router.pids) / (1 << 20),
                "processes": float(router.num_processes),
            }
        return figures
