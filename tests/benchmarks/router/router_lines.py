"""Lines and results by hand."""

from __future__ import annotations

from shoal.benchmarks.peers.peers_result import Contestant, Line
from shoal.benchmarks.router.router_result import RouterResult
from shoal.benchmarks.router.standard_set import STANDARD_SET
from shoal.benchmarks.router.verdict import conclude


def line(server: str, case: str, repeat: int = 0, **figures: float) -> Line:
    return Line(server=server, repeat=repeat, case=case, figures=figures, foreign_cpu=0.0)


def result_of(*lines: Line, quick: bool = False) -> RouterResult:
    result = RouterResult(
        created="2026-01-01T00:00:00+00:00",
        environment={"cpu": "A processor", "cores": 2},
        repeats=1,
        quick=quick,
        soak_minutes=0.0,
        contestants={
            name: Contestant(version="1", settings="defaults")
            for name in ("direct", "shoal", "vllm-router", "sglang-router", "nginx")
        },
        cases={case.name: case.title for case in STANDARD_SET},
        lines=list(lines),
    )
    conclude(result)
    return result
