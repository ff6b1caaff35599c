"""What probes make of an endpoint."""

from __future__ import annotations

import pytest

from shoal.router.core.types import EndpointStatus
from shoal.router.fleet.health import (
    LONG_DEAD_INTERVAL_S,
    RECOVERY_INTERVAL_S,
    RECOVERY_S,
    Health,
)

STARTING, READY, UNHEALTHY = (
    EndpointStatus.STARTING, EndpointStatus.READY, EndpointStatus.UNHEALTHY,
)  # fmt: skip


@pytest.mark.parametrize(
    ("probes", "statuses"),
    [
        ("+", [READY]),
        ("---+", [STARTING, STARTING, STARTING, READY]),
        ("+-+", [READY, READY, READY]),
        ("+--", [READY, READY, UNHEALTHY]),
        ("+-+-+", [READY] * 5),
        ("+---+", [READY, READY, UNHEALTHY, UNHEALTHY, READY]),
    ],
)
def test_status_after_each_probe(probes: str, statuses: list[EndpointStatus]) -> None:
    health = Health(failures=2)
    seen = []
    for now, probe in enumerate(probes):
        before = health.status
        changed = health.succeeded() if probe == "+" else health.failed("down", float(now))
        assert changed == (health.status is not before)
        seen.append(health.status)
    assert seen == statuses


def test_why_it_failed_is_kept_until_it_succeeds() -> None:
    health = Health(failures=2)
    health.failed("no route", 0.0)
    assert (health.last_error, health.num_failures) == ("no route", 1)
    health.succeeded()
    assert (health.last_error, health.num_failures) == (None, 0)


def test_trouble_is_looked_at_more_often_at_first() -> None:
    health = Health(failures=2)
    health.succeeded()
    assert health.next_probe_s(5.0, 0.0) == 5.0
    health.failed("down", 10.0)
    assert health.next_probe_s(5.0, 10.0) == RECOVERY_INTERVAL_S
    assert health.next_probe_s(5.0, 10.0 + RECOVERY_S) == LONG_DEAD_INTERVAL_S
    health.failed("down", 50.0)
    assert health.next_probe_s(5.0, 10.0 + RECOVERY_S) == LONG_DEAD_INTERVAL_S


def test_trouble_is_never_looked_at_less_often_than_health() -> None:
    health = Health(failures=2)
    health.failed("down", 0.0)
    assert health.next_probe_s(0.1, 0.0) == 0.1
    assert health.next_probe_s(0.1, RECOVERY_S) == 0.1


def test_a_reload_changes_how_many_failures_it_takes() -> None:
    health = Health(failures=5)
    health.succeeded()
    health.configure(1)
    assert health.failed("down", 0.0)
    assert health.status is UNHEALTHY
