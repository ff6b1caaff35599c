"""Circuit breakers: an endpoint that fails gets no requests for a while, and outages are not made.

What counts is the caller's to know. Connection errors, resets, timeouts and 5xx other than 503
are a `failure`; a good answer or a 4xx is a `success`. Back-pressure (429, 503) and a client that
went away say nothing about the worker: `abandon`.

    CLOSED ── consecutive failures, or their share of a window, or far more than others ──> OPEN
    OPEN ── its time is over, or a health check succeeded ──> HALF_OPEN
    HALF_OPEN ── `begin`: the probe is out ──> (OPEN to everybody else) ── success ──> CLOSED
                                                                     └─── failure ──> OPEN, longer

A probe whose outcome never comes holds its place for `PROBE_LEASE_S`; then the next may go. The
board owns all breakers of a process; `effective_states` puts the fleet's rule on top: never more
than a share of a model's endpoints are out, and never the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from math import inf
from typing import Final, NamedTuple

from .outliers import outliers
from .types import BreakerState
from .window_count import WindowCount

PROBE_LEASE_S: Final = 5.0
MAX_SHORTCUTS: Final = 3
"""Times in a row that a good health check may cut the wait short: a worker that is healthy until
it gets a request would otherwise be probed every second for ever."""
NOBODY: Final[frozenset[str]] = frozenset()


class FailureKind(Enum):
    """How a request failed; decides whether a good health check proves anything."""

    CONNECT = "connect"
    """Refused, unreachable, or no connection in time."""
    RESET = "reset"
    """The connection ended before the answer did."""
    TIMEOUT = "timeout"
    """No first byte, or silence inside a stream."""
    STATUS = "status"
    """5xx other than 503: the worker runs, and fails."""
    OUTLIER = "outlier"
    """However they were: more often than at the others."""


class BreakerSettings(NamedTuple):
    """See `BreakerConfig` in router/settings/protection.py, which has the same fields."""

    consecutive_failures: int = 5
    failure_ratio: float = 0.5
    min_requests: int = 20
    window_s: float = 10.0
    open_s: float = 0.5
    max_open_s: float = 8.0
    max_ejected_ratio: float = 0.5


class _Breaker:
    """One endpoint's. `open_until` is inf while CLOSED, so that one comparison serves both."""

    __slots__ = (
        "consecutive", "failures", "is_open", "kind", "num_opened", "open_until", "opened_at",
        "probe_until", "probes", "reported", "shortcuts", "successes", "was_unhealthy",
    )  # fmt: skip

    def __init__(self, window_s: float) -> None:
        self.successes = WindowCount(window_s)
        self.failures = WindowCount(window_s)
        self.consecutive = 0
        self.is_open = False
        self.opened_at = 0.0
        self.open_until = inf
        self.num_opened = 0
        """Times in a row, since it was last closed."""
        self.probes = 0
        """Requests begun since it opened, and not yet known."""
        self.probe_until = -inf
        self.kind = FailureKind.RESET
        self.shortcuts = MAX_SHORTCUTS
        self.was_unhealthy = False
        self.reported = BreakerState.CLOSED

    def state(self, now: float) -> BreakerState:
        if not self.is_open:
            return BreakerState.CLOSED
        if now < self.open_until or now < self.probe_until:
            return BreakerState.OPEN
        return BreakerState.HALF_OPEN


class BreakerBoard:
    """All breakers of a process, by endpoint_id. Calls on a closed one cost well under 1 us."""

    def __init__(self, settings: BreakerSettings) -> None:
        if settings.consecutive_failures < 1 or settings.min_requests < 1:
            raise ValueError("consecutive_failures and min_requests must be 1 or more")
        if settings.window_s <= 0:
            raise ValueError(f"window_s must be positive, got {settings.window_s}")
        if not 0 < settings.failure_ratio <= 1:
            raise ValueError(
                f"failure_ratio must be above 0 and at most 1, got {settings.failure_ratio}"
            )
        if not 0 < settings.open_s <= settings.max_open_s:
            raise ValueError(
                f"open_s must be positive and at most max_open_s, got {settings.open_s}"
            )
        if not 0 <= settings.max_ejected_ratio <= 1:
            raise ValueError(
                f"max_ejected_ratio must be between 0 and 1, got {settings.max_ejected_ratio}"
            )
        self._settings = settings
        self._breakers: dict[str, _Breaker] = {}
        self._open: dict[str, _Breaker] = {}
        """Those not closed: the only ones whose state time changes."""
        self._dirty: set[str] = set()

    def begin(self, endpoint_id: str, now: float) -> None:
        """A request is sent there. While half open it is the probe, and holds the place."""
        breaker = self._open.get(endpoint_id)
        if breaker is None:
            return
        breaker.probes += 1
        if breaker.state(now) is BreakerState.HALF_OPEN:
            breaker.probe_until = now + PROBE_LEASE_S
            self._dirty.add(endpoint_id)

    def success(self, endpoint_id: str, now: float) -> None:
        """A request was answered: the head of the answer is enough.

        Closes an open breaker, unless the request was already under way when it opened.
        """
        breaker = self._breakers.get(endpoint_id)
        if breaker is None:
            breaker = self._breakers[endpoint_id] = _Breaker(self._settings.window_s)
        breaker.successes.add(now)
        breaker.consecutive = 0
        if breaker.is_open and breaker.probes:
            self._close(endpoint_id, breaker)

    def failure(self, endpoint_id: str, now: float, kind: FailureKind = FailureKind.RESET) -> None:
        """A request failed, and the endpoint is to blame."""
        breaker = self._breakers.get(endpoint_id)
        if breaker is None:
            breaker = self._breakers[endpoint_id] = _Breaker(self._settings.window_s)
        if breaker.is_open:
            if not breaker.probes:
                return  # begun before it opened: nothing new
            breaker.probes -= 1
            if now >= breaker.open_until:
                self._open_for(endpoint_id, breaker, now, kind)
            return
        breaker.failures.add(now)
        breaker.consecutive += 1
        if breaker.consecutive >= self._settings.consecutive_failures or self._fails_often(
            breaker, now
        ):
            self._open_for(endpoint_id, breaker, now, kind)

    def abandon(self, endpoint_id: str, now: float) -> None:
        """A request ended and says nothing about the endpoint (client gone, 429, 503).

        If it was the probe, the next request may be one.
        """
        breaker = self._open.get(endpoint_id)
        if breaker is None or not breaker.probes:
            return
        breaker.probes -= 1
        if not breaker.probes and breaker.probe_until > now:
            breaker.probe_until = -inf
            self._dirty.add(endpoint_id)

    def healthy(self, endpoint_id: str, now: float) -> None:
        """An active health check succeeded: a wait for a worker that was gone ends now."""
        breaker = self._open.get(endpoint_id)
        if breaker is None or now >= breaker.open_until or not breaker.shortcuts:
            return
        is_reachable = breaker.kind in (FailureKind.STATUS, FailureKind.OUTLIER)
        if is_reachable and not breaker.was_unhealthy:
            return  # it was reachable all along, so being reachable is no news
        breaker.shortcuts -= 1
        breaker.open_until = now
        self._dirty.add(endpoint_id)

    def unhealthy(self, endpoint_id: str) -> None:
        """An active health check failed: the next good one is news."""
        breaker = self._open.get(endpoint_id)
        if breaker is not None:
            breaker.was_unhealthy = True
            breaker.shortcuts = MAX_SHORTCUTS

    def eject_outliers(
        self, endpoints_by_model: Mapping[str, Iterable[str]], now: float
    ) -> list[str]:
        """Open the breakers of those that fail far more often than others of their model.

        Every few seconds. They get a probe after `max_open_s`: one good answer proves little.
        """
        ejected: list[str] = []
        for members in endpoints_by_model.values():
            counts: dict[str, tuple[int, int]] = {}
            for endpoint_id in members:
                breaker = self._breakers.get(endpoint_id)
                if breaker is not None and not breaker.is_open:
                    successes = breaker.successes.count(now)
                    counts[endpoint_id] = (successes, successes + breaker.failures.count(now))
            for endpoint_id in outliers(counts):
                breaker = self._breakers[endpoint_id]
                self._open_for(endpoint_id, breaker, now, FailureKind.OUTLIER)
                breaker.open_until = now + self._settings.max_open_s
                ejected.append(endpoint_id)
        return ejected

    def forget(self, endpoint_id: str) -> None:
        """The endpoint is gone, or another process is behind its address."""
        if self._breakers.pop(endpoint_id, None) is not None:
            self._dirty.add(endpoint_id)
        self._open.pop(endpoint_id, None)

    def state(self, endpoint_id: str, now: float) -> BreakerState:
        """Of this endpoint by itself, without the fleet's rule. HALF_OPEN: a probe may be sent."""
        breaker = self._open.get(endpoint_id)
        return BreakerState.CLOSED if breaker is None else breaker.state(now)

    def changed(self, now: float) -> frozenset[str]:
        """endpoint_ids whose `state` differs from the last call's; cheap when all are closed.

        Time alone turns OPEN into HALF_OPEN: ask several times a second.
        """
        if not self._open and not self._dirty:
            return NOBODY
        for endpoint_id, breaker in self._open.items():
            if breaker.state(now) is not breaker.reported:
                self._dirty.add(endpoint_id)
        changed = frozenset(self._dirty)
        self._dirty.clear()
        for endpoint_id in changed.intersection(self._open):
            self._open[endpoint_id].reported = self._open[endpoint_id].state(now)
        return changed

    def effective_states(
        self, endpoints_by_model: Mapping[str, Iterable[str]], now: float
    ) -> dict[str, BreakerState]:
        """State of every endpoint under the fleet's rule; those not named here are CLOSED.

        Of the endpoints of a model at most `max_ejected_ratio` are out, and at least one is in.
        Those that opened first come back first: the best chance to have recovered. An endpoint
        that one of its models needs is CLOSED for all of them.
        """
        if not self._open:
            return {}
        needed: set[str] = set()
        for members in endpoints_by_model.values():
            endpoint_ids = list(dict.fromkeys(members))
            out = [endpoint_id for endpoint_id in endpoint_ids if endpoint_id in self._open]
            most = min(
                int(len(endpoint_ids) * self._settings.max_ejected_ratio), len(endpoint_ids) - 1
            )
            if len(out) > most:
                out.sort(key=lambda endpoint_id: self._open[endpoint_id].opened_at)
                needed.update(out[: len(out) - most])
        return {
            endpoint_id: breaker.state(now)
            for endpoint_id, breaker in self._open.items()
            if endpoint_id not in needed
        }

    def _fails_often(self, breaker: _Breaker, now: float) -> bool:
        failures = breaker.failures.count(now)
        requests = failures + breaker.successes.count(now)
        return (
            requests >= self._settings.min_requests
            and failures >= self._settings.failure_ratio * requests
        )

    def _open_for(self, endpoint_id: str, breaker: _Breaker, now: float, kind: FailureKind) -> None:
        wait_s = min(
            self._settings.max_open_s, self._settings.open_s * 2.0 ** min(breaker.num_opened, 32)
        )
        if not breaker.is_open:
            breaker.opened_at = now
            breaker.was_unhealthy = False
            breaker.shortcuts = MAX_SHORTCUTS
        breaker.is_open = True
        breaker.open_until = now + wait_s
        breaker.num_opened += 1
        breaker.probes = 0
        breaker.probe_until = -inf
        breaker.kind = kind
        self._open[endpoint_id] = breaker
        self._dirty.add(endpoint_id)

    def _close(self, endpoint_id: str, breaker: _Breaker) -> None:
        """A clean sheet: failures of before say nothing about now."""
        breaker.is_open = False
        breaker.open_until = inf
        breaker.num_opened = 0
        breaker.probes = 0
        breaker.probe_until = -inf
        breaker.consecutive = 0
        breaker.failures.clear()
        breaker.successes.clear()
        breaker.reported = BreakerState.CLOSED
        del self._open[endpoint_id]
        self._dirty.add(endpoint_id)
