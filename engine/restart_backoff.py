"""How long to wait before a crashed engine core is started again, and when to give up."""

from __future__ import annotations

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0
STABLE_AFTER_S = 60.0
"""A core that served for so long has recovered: the crashes before it are forgotten."""


class RestartBackoff:
    """Doubles the delay with each crash in a row: 0.5, 1, 2, ... at most 30 s."""

    def __init__(self, max_restarts: int) -> None:
        self._max_restarts = max_restarts
        self._num_crashes = 0

    def next_delay_s(self, *, served_s: float) -> float | None:
        """Call at each crash with how long the core had served; None means give up."""
        if served_s >= STABLE_AFTER_S:
            self._num_crashes = 0
        self._num_crashes += 1
        if self._num_crashes > self._max_restarts:
            return None
        return min(FIRST_DELAY_S * 2.0 ** (self._num_crashes - 1), MAX_DELAY_S)
