"""The fuzz target finds what is wrong, says how to see it again, and passes what is right."""

from __future__ import annotations

import pytest
import torch

from tests.kernels.fuzz import __main__ as fuzz
from tests.kernels.fuzz.draw import Draw


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="a case compiles for a second there: make fuzz-kernels"
)
def test_every_operation_passes_some_cases(capsys: pytest.CaptureFixture[str]) -> None:
    count = len(fuzz.OPERATIONS)
    assert fuzz.main(["--seed", "11", "--cases", str(count), "--seconds", "30"]) == 0
    assert "0 failed" in capsys.readouterr().out


def test_a_mismatch_is_told_with_its_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(draw: Draw) -> None:
        assert draw.size("dim", 5, least=5) == 4, "not 4"

    monkeypatch.setitem(fuzz.OPERATIONS, "gather", broken)
    assert fuzz.main(["--only", "gather", "--seed", "7", "--cases", "2"]) == 1
    out = capsys.readouterr().out
    assert "--only gather --seed 8 --cases 1" in out
    assert "dim=5" in out
    assert "2 cases, 2 failed" in out


def test_no_case_in_the_time_is_a_failure() -> None:
    assert fuzz.main(["--seconds", "0"]) == 1


def test_a_seed_makes_the_same_choices(device: torch.device) -> None:
    def choices(seed: int) -> tuple[str, list[float]]:
        draw = Draw(seed, device)
        draw.size("a", 1000)
        draw.pick("b", range(1000))
        values = draw.normal(4).tolist()
        return draw.describe(), values

    assert choices(5) == choices(5)
    assert choices(5) != choices(6)
