from __future__ import annotations

import math

import pytest
import torch

from shoal.kernels import vocab_rows
from shoal.kernels.vocab_rows import count_above, largest_values, row_argmax, zero_below_

ROWS = torch.tensor([[3.0, 9.0, 1.0, 9.0, 4.0], [-1.0, -3.0, -2.0, 0.0, -5.0]])


@pytest.fixture(autouse=True, params=["numpy", "torch"])
def body(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs with either body; on a GPU there is only torch's."""
    if request.param == "torch":
        monkeypatch.setattr(vocab_rows, "_on_cpu", lambda rows: False)


def test_row_argmax() -> None:
    assert row_argmax(ROWS).tolist()[1] == 3
    assert row_argmax(ROWS).tolist()[0] in (1, 3)


def test_row_argmax_finds_nan() -> None:
    rows = ROWS.clone()
    rows[0, 4] = math.nan
    assert row_argmax(rows).tolist() == [4, 3]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_largest_values(count: int) -> None:
    expected = [[9.0, 9.0, 4.0, 3.0, 1.0][:count], [0.0, -1.0, -2.0, -3.0, -5.0][:count]]
    assert largest_values(ROWS, count).tolist() == expected


def test_count_above() -> None:
    assert count_above(ROWS, torch.tensor([3.0, -9.0])).tolist() == [3, 5]


def test_zero_below() -> None:
    rows = ROWS.clone()
    zero_below_(rows, torch.tensor([4.0, -2.0]))
    assert rows.tolist() == [[0.0, 9.0, 0.0, 9.0, 4.0], [-1.0, 0.0, -2.0, 0.0, 0.0]]
