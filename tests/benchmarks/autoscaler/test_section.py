from __future__ import annotations

from typing import Any

import pytest

from shoal.benchmarks.autoscaler.section import section


def result(**changes: Any) -> dict[str, Any]:
    load = {
        "requests": 71819, "oracle_hours": 5.0, "meets_objective": True, "over_oracle": 0.1,
        "saved_to_best_other": 0.3125,
        "scalers": {
            "all known ahead": {"attainment": 0.991, "replica_hours": 5.3, "changes": 9},
            "Shoal": {"attainment": 0.992, "replica_hours": 5.5, "changes": 30},
            "HPA 24 requests": {"attainment": 0.993, "replica_hours": 8.0, "changes": 20},
            "KPA 12 requests": {"attainment": 0.999, "replica_hours": 12.0, "changes": 40},
            "KEDA 1 waiting": {"attainment": 0.8, "replica_hours": 3.0, "changes": 80},
            "never scaled: 7 replicas": {"attainment": 0.995, "replica_hours": 7.0, "changes": 0},
        },
        **changes,
    }  # fmt: skip
    environment = {
        "cpu": "c",
        "cores": 2,
        "os": "o",
        "python": "3",
        "commit": "abc",
        "command": "x",
    }
    return {"date": "2026-01-01", "environment": environment, "loads": {"sine": load}}


def test_shoal_stands_beside_the_cheapest_that_meets_the_objective() -> None:
    page = section(result())
    assert "| sine | 99.20% | 1.10 | 1.06 (99.1%) | HPA 24 requests, 1.60 | 31% | met |" in page
    assert "| never scaled: 7 replicas | 99.50% | 7.00 | 1.40 | 0 |" in page
    assert "commit abc" in page


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"meets_objective": False}, "objective"),
        ({"over_oracle": 0.16}, "bound"),
        ({"saved_to_best_other": 0.24}, "saving"),
        ({"over_oracle": 1.0, "saved_to_best_other": -0.1}, "bound, saving"),
    ],
)
def test_what_is_missed_is_said(changes: dict[str, Any], missed: str) -> None:
    assert f"| missed: {missed} |" in section(result(**changes))


def test_where_no_other_meets_the_objective_it_says_so() -> None:
    page = section(result(saved_to_best_other=None))
    assert "| none meets it | - | met |" in page
