from __future__ import annotations

import pytest

from shoal.benchmarks.gpu.case import Case
from shoal.benchmarks.gpu.floors import Floors
from shoal.benchmarks.gpu.result import HEADER, Result, row, table

FLOORS = Floors(copy_bytes_per_s=2e12, flops_per_s={"bf16": 8e14, "fp8": 16e14})


def make_result(**changes: object) -> Result:
    values: dict[str, object] = {
        "name": "op/shape", "us": 200.0, "floor_us": 100.0, "bound_by": "bytes",
        "bytes_moved": 200_000_000, "flops": 10**9, "peers_us": {}, "failed_peers": {},
        "target": None,
    }  # fmt: skip
    return Result(**{**values, **changes})  # type: ignore[arg-type]


def make_case(**changes: object) -> Case:
    values: dict[str, object] = {"name": "op", "call": print, "bytes_moved": 0}
    return Case(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("case", "floor_us", "by_bytes"),
    [
        (make_case(bytes_moved=2_000_000), 1.0, True),
        (make_case(bytes_moved=2, flops=1_600_000_000), 2.0, False),
        (make_case(bytes_moved=2, flops=1_600_000_000, flop_rate="fp8"), 1.0, False),
        # Without a rate of its own it is held against bf16's.
        (make_case(bytes_moved=2, flops=1_600_000_000, flop_rate="int8"), 2.0, False),
    ],
)
def test_the_floor_is_bytes_or_operations_whichever_takes_longer(
    case: Case, floor_us: float, by_bytes: bool
) -> None:
    assert FLOORS.seconds(case) * 1e6 == pytest.approx(floor_us)
    assert FLOORS.is_bound_by_bytes(case) is by_bytes


def test_a_result_is_a_share_of_the_floor_and_a_ratio_to_the_best_peer() -> None:
    result = make_result(peers_us={"slow": 900.0, "fast": 300.0}, target=0.6)
    assert result.of_floor == 0.5
    assert result.ratio_to_best_peer == 1.5
    assert result.rate == "1,000 GB/s"
    assert result.is_on_target is False
    cells = dict(zip(HEADER, row(result), strict=True))
    assert cells["target"] == "60% missed"
    assert cells["best peer"] == "fast 300.0 us, x1.50"


def test_without_peers_and_target_nothing_is_claimed() -> None:
    result = make_result(bound_by="operations")
    assert result.ratio_to_best_peer is None
    assert result.is_on_target is None
    assert result.rate == "5 TFLOP/s"
    assert result.as_json()["ratio_to_best_peer"] is None


def test_the_table_has_a_line_for_each_result() -> None:
    lines = table([row(make_result()), row(make_result(name="a/longer-name"))]).splitlines()
    assert len(lines) == 4
    assert len(set(map(len, lines))) == 1
