from __future__ import annotations

from shoal.autoscaler.kubernetes.events import (
    BURST,
    COUNT_EVERY_S,
    REFILL_S,
    SAME_S,
    Ledger,
    Regarding,
    Told,
    Write,
)


def told(note: str = "2 -> 3", name: str = "chat", reason: str = "Scaled") -> Told:
    regarding = Regarding(api_version="x/v1", kind="ScalingPolicy", namespace="llm", name=name)
    return Told(regarding=regarding, reason=reason, note=note)


def test_the_same_again_counts_up_now_and_then() -> None:
    ledger = Ledger()
    assert ledger.take(told(), 0.0) == Write(1, 1)
    assert ledger.take(told(), 1.0) is None
    assert ledger.take(told(), COUNT_EVERY_S) == Write(1, 3)
    assert ledger.take(told(), COUNT_EVERY_S + 1) is None


def test_other_words_are_another_event() -> None:
    ledger = Ledger()
    writes = [
        ledger.take(told(), 0.0),
        ledger.take(told("3 -> 4"), 0.0),
        ledger.take(told(reason="Advised"), 0.0),
        ledger.take(told(name="other"), 0.0),
    ]
    assert writes == [Write(1, 1), Write(2, 1), Write(3, 1), Write(4, 1)]


def test_what_was_long_ago_is_told_anew() -> None:
    ledger = Ledger()
    ledger.take(told(), 0.0)
    assert ledger.take(told(), SAME_S) == Write(2, 1)


def test_one_object_tells_a_burst_then_one_now_and_then() -> None:
    ledger = Ledger()
    writes = [ledger.take(told(f"{i}"), 0.0) for i in range(int(BURST) + 5)]
    assert [write is not None for write in writes] == [True] * int(BURST) + [False] * 5
    assert ledger.num_dropped == 5
    assert ledger.take(told("of another", name="other"), 0.0) is not None
    assert ledger.take(told("later"), REFILL_S) is not None
    assert ledger.take(told("and again"), REFILL_S) is None


def test_nothing_is_kept_for_ever() -> None:
    ledger = Ledger()
    for i in range(1000):
        ledger.take(told(f"{i}", name=f"{i}"), i * 10.0)
    assert len(ledger._known) <= SAME_S / 10 + 1
    assert len(ledger._tokens) <= BURST * REFILL_S / 10 + 1
