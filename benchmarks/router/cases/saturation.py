"""64 clients that ask as fast as they are answered. Client, workers and router share the cores."""

from __future__ import annotations

from functools import partial

from ..contestants import Contestant
from ..loads.requests import chat_request
from ..loads.saturation import saturate
from ..programs import BenchFailed
from ..running_router import running
from ..stage import Figures, Stage
from ..usage import cpu_s
from ..workers import MODEL, Costs, mock_workers

NUM_CONNECTIONS = 64
WARM_UP_S = 1.0


def measure(stage: Stage, contestant: Contestant) -> Figures:
    with (
        mock_workers(stage.programs.mock_worker, Costs(), stage.folder) as workers,
        running(contestant, workers, stage.folder) as router,
    ):
        request = chat_request(MODEL, max_tokens=1, stream=False, headers=router.headers)
        run = partial(
            saturate, stage.programs.load_client, router.ports, request, folder=stage.folder,
            num_connections=NUM_CONNECTIONS,
        )  # fmt: skip
        run(duration_s=WARM_UP_S)
        before_s = cpu_s(router.pids)
        outcome = run(duration_s=stage.lasting(5.0, 2.0))
        used_s = cpu_s(router.pids) - before_s
        if outcome.requests == 0:
            raise BenchFailed(f"no request was answered, {outcome.errors} failed")
        figures = {
            "requests_per_s": outcome.requests / outcome.seconds,
            "p50_ms": outcome.p50_ms,
            "p99_ms": outcome.p99_ms,
            "failed": float(outcome.errors),
            "client_cores": outcome.cpu_s / outcome.seconds,
        }
        if router.pids:
            figures |= {
                "cpu_us_per_request": used_s / outcome.requests * 1e6,
                "router_cores": used_s / outcome.seconds,
            }
        return figures
