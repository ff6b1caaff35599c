"""The period of a load that repeats, found in the load: the lag at which it is most like itself."""

from __future__ import annotations

from collections import deque

BUCKET_S = 30.0
MEMORY_S = 4 * 3600.0
MIN_BUCKETS = 6
"""Of a period: shorter ones are over before a replica is ready."""
MIN_PERIODS = 2.5
"""That must have been seen."""
LEAST_LIKENESS = 0.4
"""Autocorrelation that is taken for more than chance."""


class PeriodFinder:
    """Counts of the last hours in buckets; memory is bounded."""

    def __init__(self) -> None:
        self._rates: deque[float] = deque(maxlen=int(MEMORY_S / BUCKET_S))
        self._count = self._seconds = 0.0

    def add(self, interval_s: float, count: float) -> None:
        self._count += count
        self._seconds += interval_s
        while self._seconds >= BUCKET_S:
            # An interval over several buckets is spread evenly.
            rate = self._count / self._seconds
            self._rates.append(rate)
            self._count -= rate * BUCKET_S
            self._seconds -= BUCKET_S

    @property
    def rates(self) -> list[float]:
        """A bucket each, oldest first."""
        return list(self._rates)

    def period_s(self) -> float | None:
        """None where nothing repeats. Some 10 ms for a full memory: not for every interval.

        The first peak that is nearly as high as the highest: multiples of a period are peaks, too.
        """
        number = len(self._rates)
        mean = sum(self._rates) / max(number, 1)
        rest = [rate - mean for rate in self._rates]
        variance = sum(r * r for r in rest) / max(number, 1)
        longest = int(number / MIN_PERIODS)
        if longest <= MIN_BUCKETS or variance <= 0:
            return None
        likeness = [
            sum(a * b for a, b in zip(rest, rest[lag:], strict=False)) / (number - lag) / variance
            for lag in range(longest + 2)
        ]
        peaks = [
            lag
            for lag in range(MIN_BUCKETS, longest + 1)
            if likeness[lag] >= LEAST_LIKENESS
            and likeness[lag - 1] < likeness[lag] >= likeness[lag + 1]
        ]
        if not peaks:
            return None
        highest = max(likeness[lag] for lag in peaks)
        best = next(lag for lag in peaks if likeness[lag] >= 0.9 * highest)
        return BUCKET_S * _summit(likeness, best)


def _summit(values: list[float], index: int) -> float:
    """Where a parabola through a peak and its neighbours is highest, in indices."""
    before, peak, after = values[index - 1 : index + 2]
    bend = before - 2 * peak + after
    return index if bend >= 0 else index + 0.5 * (before - after) / bend
