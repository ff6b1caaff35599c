"""The rules of the lease as tables: what was seen when, and what follows."""

from __future__ import annotations

import pytest

from shoal.autoscaler.kubernetes.api import WRITE_TIMEOUT_S
from shoal.autoscaler.kubernetes.election import Election, LeaseRecord, Move, Timing

TIMING = Timing(lease_s=15, renew_deadline_s=10.0, retry_s=2.0)


def record(holder: str, version: str, *, lease_s: float = 15.0) -> LeaseRecord:
    return LeaseRecord(holder, f"renewal {version}", 0, version, lease_s)


def test_nobody_leads_before_the_first_write() -> None:
    election = Election("a", TIMING)
    election.observe(None, 0.0)
    assert election.move(0.0) is Move.CREATE
    assert not election.leads(0.0)


@pytest.mark.parametrize(
    ("holder", "seen_at", "now", "move"),
    [
        ("b", 0.0, 0.0, Move.WAIT),
        ("b", 0.0, 14.9, Move.WAIT),
        ("b", 0.0, 15.0, Move.TAKE),  # nobody was seen to renew it for its duration
        ("", 0.0, 0.0, Move.TAKE),  # given back
        ("a", 0.0, 0.0, Move.RENEW),  # ours, from a life before this one
    ],
)
def test_what_a_replica_does(holder: str, seen_at: float, now: float, move: Move) -> None:
    election = Election("a", TIMING)
    election.observe(record(holder, "1"), seen_at)
    election.observe(record(holder, "1"), now)
    assert election.move(now) is move


def test_each_renewal_that_is_seen_starts_the_wait_anew() -> None:
    election = Election("a", TIMING)
    for now, version in ((0.0, "1"), (10.0, "2"), (20.0, "2")):
        election.observe(record("b", version), now)
    assert election.move(20.0) is Move.WAIT
    assert election.move(25.0) is Move.TAKE


def test_a_holder_that_promised_longer_is_waited_for_as_long() -> None:
    election = Election("a", TIMING)
    election.observe(record("b", "1", lease_s=60.0), 0.0)
    assert election.move(59.0) is Move.WAIT
    assert election.move(60.0) is Move.TAKE


def test_we_lead_from_when_the_renewal_began_not_from_when_it_was_answered() -> None:
    election = Election("a", TIMING)
    election.wrote(record("a", "1"), began=100.0, now=104.0)
    assert election.leads(109.9)
    assert not election.leads(110.0)


def test_a_lease_that_somebody_else_took_ends_it_at_once() -> None:
    election = Election("a", TIMING)
    election.wrote(record("a", "1"), began=100.0, now=100.0)
    election.observe(record("b", "2"), 101.0)
    assert not election.leads(101.0)
    assert election.move(101.0) is Move.WAIT


def test_who_resigned_writes_no_more() -> None:
    election = Election("a", TIMING)
    election.wrote(record("a", "1"), began=0.0, now=0.0)
    election.resign()
    assert not election.leads(0.0)


def test_no_two_leaders_even_when_answers_are_slow() -> None:
    """b saw a's renewal at the earliest when a began it; a's last write began before its deadline
    and has ended before b may take the lease."""
    a, b = Election("a", TIMING), Election("b", TIMING)
    a.wrote(record("a", "1"), began=0.0, now=4.0)
    b.observe(record("a", "1"), 0.0)
    last_write_begins = max(t / 10 for t in range(200) if a.leads(t / 10))
    b_takes = min(t / 10 for t in range(200) if b.move(t / 10) is Move.TAKE)
    assert last_write_begins + WRITE_TIMEOUT_S < b_takes


def test_a_suspended_leader_finds_itself_out_of_office() -> None:
    """Its clock counts the suspension (CLOCK_BOOTTIME), so the fence is closed when it wakes up."""
    election = Election("a", TIMING)
    election.wrote(record("a", "1"), began=0.0, now=0.0)
    assert not election.leads(3600.0)


@pytest.mark.parametrize("wrong", [(15, 15.0, 2.0), (15, 10.0, 10.0), (15, 10.0, 0.0)])
def test_timings_that_could_not_work_are_refused(wrong: tuple[int, float, float]) -> None:
    lease_s, renew_deadline_s, retry_s = wrong
    with pytest.raises(ValueError, match="election"):
        Timing(lease_s=lease_s, renew_deadline_s=renew_deadline_s, retry_s=retry_s)
