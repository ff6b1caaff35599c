"""How runs of several harnesses become ratios."""

from __future__ import annotations

from shoal.benchmarks.agreement.__main__ import ratios, rotated
from shoal.benchmarks.agreement.harnesses import Figures


def figures(ttft_s: float) -> Figures:
    return {"ttft_p50_s": ttft_s, "itl_p50_s": 0.02, "output_tokens_per_s": 100.0}


def test_ratios_are_medians_over_neighbouring_runs() -> None:
    runs = {
        "shoal": [figures(1.0), figures(4.0), figures(9.0)],
        "other": [figures(1.0), figures(8.0), figures(3.0)],
    }
    # 1, 0.5 and 3; the ratio of the medians would be 4 / 3.
    assert ratios(runs) == {
        "other": {"ttft_p50_s": 1.0, "itl_p50_s": 1.0, "output_tokens_per_s": 1.0}
    }


def test_nobody_is_always_first() -> None:
    names = ["a", "b", "c"]
    assert [rotated(names, turn) for turn in range(4)] == [
        ["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"],
    ]  # fmt: skip
