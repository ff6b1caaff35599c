"""Lines and results as the benchmark would write them."""

from __future__ import annotations

from shoal.benchmarks.peers.comparison import conclude
from shoal.benchmarks.peers.peers_result import Contestant, Line, PeersResult


def speed_line(server: str, repeat: int, case: str, tokens_per_s: float) -> Line:
    return Line(
        server=server,
        repeat=repeat,
        case=case,
        figures={
            "output_tokens_per_s": tokens_per_s, "total_tokens_per_s": 2 * tokens_per_s,
            "ttft_p50_s": 0.25, "ttft_p99_s": 0.5, "itl_p50_s": 0.02, "itl_p99_s": 0.04,
        },
        foreign_cpu=0.01,
    )  # fmt: skip


def error_line(server: str, repeat: int, case: str, error: str) -> Line:
    return Line(server=server, repeat=repeat, case=case, error=error)


def result_of(lines: list[Line]) -> PeersResult:
    """Concluded, with everything else that the lines imply."""
    servers = dict.fromkeys(line.server for line in lines)
    cases = dict.fromkeys(line.case for line in lines if line.case not in ("start", "memory"))
    result = PeersResult(
        created="2026-11-23T12:00:00+00:00",
        environment={"cpu": "A processor", "cores": 2, "gpu": None, "commit": "abc1234",
                     "command": "python -m shoal.benchmarks.peers"},
        model="pypi:some-model",
        repeats=1 + max((line.repeat for line in lines), default=0),
        quick=False,
        contestants={name: Contestant(version=f"{name} 1.0", settings="defaults")
                     for name in servers},
        cases={case: f"title of {case}" for case in cases},
        lines=lines,
    )  # fmt: skip
    conclude(result)
    return result
