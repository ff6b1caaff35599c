from __future__ import annotations

import pytest

from shoal.benchmarks.fake_worker.faults import Fault, FaultKind, Faults, parse_fault
from shoal.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("error", Fault(kind=FaultKind.ERROR)),
        ("hang:0.25", Fault(kind=FaultKind.HANG, probability=0.25)),
        ("cut:0.1:7", Fault(kind=FaultKind.CUT, probability=0.1, after_tokens=7)),
        ("wrong-length::0", Fault(kind=FaultKind.WRONG_LENGTH, after_tokens=0)),
    ],
)
def test_a_fault_in_words(text: str, expected: Fault) -> None:
    assert parse_fault(text) == expected


@pytest.mark.parametrize("text", ["", "tantrum", "error:2", "error:-1", "cut:1:-1", "cut:x"])
def test_what_is_no_fault(text: str) -> None:
    with pytest.raises(ConfigError, match="one of error, overload"):
        parse_fault(text)


def test_the_die_is_seeded() -> None:
    def drawn(seed: int) -> list[Fault | None]:
        faults = Faults([parse_fault("error:0.3")], seed=seed)
        return [faults.draw() for _ in range(200)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_faults_come_as_often_as_they_should() -> None:
    faults = Faults([parse_fault("error:0.3"), parse_fault("cut:0.5")])
    for _ in range(2000):
        faults.draw()
    assert 500 < faults.counts[FaultKind.ERROR] < 700
    assert 600 < faults.counts[FaultKind.CUT] < 800  # half of the seven tenths that are left


def test_never_is_never() -> None:
    faults = Faults([parse_fault("error:0")])
    assert [faults.draw() for _ in range(100)] == [None] * 100
