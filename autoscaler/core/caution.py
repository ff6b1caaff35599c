"""Extra headroom for what headroom at a steady load does not cover: changes that surprised.

The objective counts all requests, those of a shortage too. While the share that was served in time
over the last minutes is below it, caution grows; while it is above, caution fades, slower. An
integral controller, slow beside everything it corrects.
"""

from __future__ import annotations

from .window import RateWindow

SPAN_S = 1200.0
UP_PER_S = 0.1 / 60
DOWN_PER_S = 0.03 / 60
MAX_CAUTION = 1.5


class Caution:
    """Headroom (in units of `staffing`) on top of what is learnt at steady loads."""

    def __init__(self, attainment: float) -> None:
        self._attainment = attainment
        self._total = RateWindow(SPAN_S)
        self._in_time = RateWindow(SPAN_S)
        self.value = 0.0

    def observe(
        self, now: float, *, interval_s: float, num_requests: int, num_in_time: int
    ) -> None:
        """All requests that got their first token in the interval."""
        self._total.add(now, interval_s, num_requests)
        self._in_time.add(now, interval_s, num_in_time)
        share = self.share
        if share is None:
            return
        if share < self._attainment:
            self.value = min(self.value + UP_PER_S * interval_s, MAX_CAUTION)
        else:
            self.value = max(self.value - DOWN_PER_S * interval_s, 0.0)

    @property
    def share(self) -> float | None:
        """Of the last minutes' requests, those served in time."""
        total = self._total.rate()
        return self._in_time.rate() / total if total else None  # type: ignore[operator]
