"""Figures of a fault, from what clients saw."""

from __future__ import annotations

import pytest

from shoal.benchmarks.router.cases.aftermath import aftermath, back_after_s
from shoal.benchmarks.router.cases.memory import growth
from shoal.benchmarks.router.loads.closed_loop import Ended, Verdict
from shoal.benchmarks.router.programs import BenchFailed

GOOD, FAILED, CUT = Verdict.GOOD, Verdict.FAILED, Verdict.CUT


def ended(start: float, end: float, verdict: Verdict = GOOD, detail: str = "w1") -> Ended:
    return Ended(0, start, end, verdict, detail)


def test_counts_are_of_all_requests_and_the_worst_is_after_the_fault() -> None:
    figures = aftermath(
        [
            ended(0.0, 2.0),  # before the fault: not the router's doing
            ended(2.9, 3.4),
            ended(3.1, 3.2),
            ended(3.0, 3.5, FAILED, "status 502"),
            ended(2.0, 4.0, CUT, "connection closed"),
        ],
        fault_at_s=3.0,
    )
    assert figures["requests"] == 5
    assert (figures["failed"], figures["cut"]) == (1, 1)
    assert figures["worst_ms"] == pytest.approx(500)
    assert figures["last_failure_s"] == pytest.approx(1.0)


def test_without_a_failure_there_is_no_last_one() -> None:
    assert "last_failure_s" not in aftermath([ended(0, 1)], fault_at_s=0.5)


def test_without_a_good_answer_the_reasons_are_the_error() -> None:
    bad = [ended(0, 1, FAILED, "status 503"), ended(1, 2, FAILED, "status 503")]
    with pytest.raises(BenchFailed, match="2 x failed: status 503"):
        aftermath(bad, fault_at_s=0)


def test_a_worker_is_back_with_its_first_request_after_it_was_ready() -> None:
    seen = [ended(1.0, 1.1, detail="w3"), ended(8.5, 8.6, detail="w2"),
            ended(8.75, 8.9, detail="w3"), ended(9.0, 9.1, detail="w3")]  # fmt: skip
    assert back_after_s(seen, "w3", ready_at_s=8.5) == pytest.approx(0.25)
    assert back_after_s(seen, "w3", ready_at_s=9.5) is None


def test_growth_is_the_slope_after_the_first_quarter() -> None:
    rising_at_first = [(float(t), 1000 * min(t, 10)) for t in range(40)]
    assert growth(rising_at_first) == pytest.approx(0)
    assert growth([(float(t), 500 + 20 * t) for t in range(40)]) == pytest.approx(20)
