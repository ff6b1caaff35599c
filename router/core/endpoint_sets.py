"""Sets of endpoints as the bits of an int, and the names they stand for.

Both prefix indexes keep a set of endpoints for every block: as an int it takes 28 bytes for up to
30 endpoints, 160 for 1,000, and equal ones are shared. Bit 0 is left to the index.
"""

from __future__ import annotations

MAX_REMEMBERED = 1024
"""Sets whose names are remembered: those of the system prompts in use."""


class EndpointSets:
    """Places of endpoints in such ints."""

    __slots__ = ("_names", "_remembered", "alive")

    def __init__(self) -> None:
        self.alive = 0
        """Bits of all endpoints that have a place and are not buried."""
        self._names: list[str | None] = [None]
        self._remembered: dict[int, tuple[str, ...]] = {}

    def __len__(self) -> int:
        """Places, free ones included."""
        return len(self._names) - 1

    def add(self, endpoint_id: str, free_place: int | None) -> int:
        """Give it a place, a free one if there is one; returns its bit."""
        if free_place is None:
            place = len(self._names)
            self._names.append(endpoint_id)
        else:
            place = free_place
            self._names[place] = endpoint_id
        bit = 1 << place
        self.alive |= bit
        self._remembered.clear()
        return bit

    def bury(self, bit: int) -> None:
        """The endpoint is gone. Its place is not free while a block may still carry its bit."""
        self.alive &= ~bit
        self._names[bit.bit_length() - 1] = None
        self._remembered.clear()

    def depths(self, levels: list[tuple[int, int]]) -> dict[str, int]:
        """Depth of each endpoint, from (depth, who has it all), shallow first.

        Deeper levels are subsets: what they say replaces what was said before.
        """
        depths: dict[str, int] = {}
        for depth, bits in levels:
            if not bits & (bits - 1):
                depths[self._names[bits.bit_length() - 1]] = depth  # type: ignore[index]
            elif depths:
                depths.update(dict.fromkeys(self.names(bits), depth))
            else:
                depths = dict.fromkeys(self.names(bits), depth)
        return depths

    def names(self, bits: int) -> tuple[str, ...]:
        """Of the endpoints in a set, all of them alive."""
        remembered = self._remembered.get(bits)
        if remembered is not None:
            return remembered
        names = self._names
        found: list[str] = []
        digits = bin(bits)[:1:-1]
        place = digits.find("1")
        while place >= 0:
            found.append(names[place])  # type: ignore[arg-type]  # those alive have names
            place = digits.find("1", place + 1)
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[bits] = result = tuple(found)
        return result
