from __future__ import annotations

from shoal.engine.restart_backoff import STABLE_AFTER_S, RestartBackoff


def test_delays_double_up_to_a_bound_then_it_gives_up() -> None:
    backoff = RestartBackoff(8)
    delays = [backoff.next_delay_s(served_s=1.0) for _ in range(9)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, None]


def test_crashes_before_a_stable_time_are_forgotten() -> None:
    backoff = RestartBackoff(1)
    assert backoff.next_delay_s(served_s=0.0) == 0.5
    assert backoff.next_delay_s(served_s=STABLE_AFTER_S) == 0.5
    assert backoff.next_delay_s(served_s=0.0) is None


def test_no_restart_when_none_is_allowed() -> None:
    assert RestartBackoff(0).next_delay_s(served_s=STABLE_AFTER_S) is None
