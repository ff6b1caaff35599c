"""From lines to the figures that Shoal is judged by. Pure.

Ratios and differences are taken within a repeat, where the machine was the same for both, and their
median over repeats is what counts. What must not happen is added up over repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median

from shoal.benchmarks.peers.comparison import medians
from shoal.benchmarks.peers.peers_result import Line

from .contestants import DIRECT, RUST, SHOAL, VLLM
from .router_result import RouterResult

Verdict = dict[str, float | None]


def conclude(result: RouterResult) -> None:
    """Fill in everything that follows from the lines."""
    result.medians = medians(result.lines)
    result.verdict = verdict(result.lines)


def verdict(lines: Sequence[Line]) -> Verdict:
    measured = Measured(lines)
    ratio, added = measured.ratio, measured.added
    return {
        "cpu_us_per_request_ratio_to_vllm_router": ratio(
            "paced", "cpu_us_per_request", (VLLM,), min
        ),
        "cpu_us_saturated_ratio_to_vllm_router": ratio(
            "saturation", "cpu_us_per_request", (VLLM,), min
        ),
        "rps_ratio_to_best_rust": ratio("saturation", "requests_per_s", RUST, max),
        "cpu_ms_per_1k_tokens_ratio_to_best_rust": ratio(
            "streams", "cpu_ms_per_1k_tokens", RUST, min
        ),
        "added_ttft_p50_ms": added("streams", "ttft_p50_ms"),
        "added_ttft_p99_ms": added("streams", "ttft_p99_ms"),
        "streams_dropped": measured.total("streams", "dropped"),
        "prefix_hit_rate": measured.middle("prefix", "hit_rate"),
        "prefix_max_share": measured.middle("prefix", "max_share"),
        "exact_hit_rate": measured.middle("exact", "hit_rate"),
        "exact_hit_ratio_to_oracle": measured.middle("exact", "ratio_to_bound"),
        "kill9_failed": _sum(
            measured.total("kill9", "failed"), measured.total("kill9-streams", "failed")
        ),
        "streams_cut": measured.total("kill9-streams", "cut"),
        "kill9_back_s": measured.worst("kill9", "back_s"),
        "hung_failed": measured.total("hung", "failed"),
        "hung_worst_ms": measured.worst("hung", "worst_ms"),
        "restart_failed": _sum(
            measured.total("restart-workers", "failed"),
            measured.total("restart-workers", "cut"),
            measured.total("restart-router", "failed"),
            measured.total("restart-router", "cut"),
        ),
        "idle_kib_per_connection": measured.middle("idle", "idle_kib_per_connection"),
        "kib_per_stream": measured.middle("idle", "kib_per_stream"),
        "soak_growth_kib_per_minute": measured.worst("soak", "growth_kib_per_minute"),
        "shoal_errors": float(
            sum(line.server == SHOAL and line.error is not None for line in lines)
        ),
    }


class Measured:
    """Good lines by router, case and repeat; figures are Shoal's unless another is named."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._figures = {
            (line.server, line.case, line.repeat): line.figures
            for line in lines
            if line.error is None
        }

    def values(self, case: str, figure: str, server: str = SHOAL) -> dict[int, float]:
        """By repeat."""
        return {
            repeat: figures[figure]
            for (who, what, repeat), figures in self._figures.items()
            if who == server and what == case and figure in figures
        }

    def middle(self, case: str, figure: str) -> float | None:
        values = self.values(case, figure)
        return round(median(values.values()), 4) if values else None

    def worst(self, case: str, figure: str) -> float | None:
        values = self.values(case, figure)
        return round(max(values.values()), 4) if values else None

    def total(self, case: str, figure: str) -> float | None:
        values = self.values(case, figure)
        return sum(values.values()) if values else None

    def ratio(
        self,
        case: str,
        figure: str,
        others: Sequence[str],
        best: Callable[[Iterable[float]], float],
    ) -> float | None:
        """Shoal's value over the best of the others' in the same repeat; median over repeats."""
        theirs = [self.values(case, figure, other) for other in others]
        ratios = [
            value / best(rivals)
            for repeat, value in self.values(case, figure).items()
            if (rivals := [values[repeat] for values in theirs if repeat in values])
        ]
        return round(median(ratios), 4) if ratios else None

    def added(self, case: str, figure: str) -> float | None:
        """Shoal's value less that without a router in the same repeat; median over repeats."""
        direct = self.values(case, figure, DIRECT)
        differences = [
            value - direct[repeat]
            for repeat, value in self.values(case, figure).items()
            if repeat in direct
        ]
        return round(median(differences), 4) if differences else None


def _sum(*parts: float | None) -> float | None:
    """Of what was measured; None when nothing was."""
    known = [part for part in parts if part is not None]
    return sum(known) if known else None
