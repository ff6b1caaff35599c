"""Figures of what clients saw while something happened to the servers. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..loads.closed_loop import Ended, Verdict
from ..loads.percentiles import percentile
from ..programs import BenchFailed
from ..stage import Figures, Stage


def aftermath(ended: Sequence[Ended], *, fault_at_s: float) -> Figures:
    """Counts of all requests; the longest of the good ones that ended after the fault began."""
    good = [request for request in ended if request.verdict is Verdict.GOOD]
    if not good:
        raise BenchFailed(f"no request succeeded: {why(ended)}")
    counts = Counter(request.verdict for request in ended)
    after = [request.seconds for request in good if request.ended_s > fault_at_s]
    bad_ends = [request.ended_s for request in ended if request.verdict is not Verdict.GOOD]
    figures = {
        "requests": float(len(ended)),
        "failed": float(counts[Verdict.FAILED]),
        "cut": float(counts[Verdict.CUT]),
        "p50_ms": percentile([request.seconds for request in good], 0.5) * 1e3,
        "worst_ms": max(after, default=0.0) * 1e3,
    }
    if bad_ends:
        figures["last_failure_s"] = max(bad_ends) - fault_at_s
    return figures


def back_after_s(ended: Sequence[Ended], worker: str, *, ready_at_s: float) -> float | None:
    """From when a worker could serve again to when it got a request; None: it got none."""
    served = [
        request.started_s
        for request in ended
        if request.verdict is Verdict.GOOD
        and request.detail == worker
        and request.started_s >= ready_at_s
    ]
    return min(served) - ready_at_s if served else None


def why(ended: Sequence[Ended]) -> str:
    """The most common problems, with their counts; nothing when there were none."""
    problems = Counter(
        f"{request.verdict}: {request.detail}"
        for request in ended
        if request.verdict is not Verdict.GOOD
    )
    return "; ".join(f"{count} x {problem}" for problem, count in problems.most_common(3))


def tell(stage: Stage, ended: Sequence[Ended]) -> None:
    """Why requests failed, for whoever watches the run."""
    if problems := why(ended):
        stage.say(problems)
