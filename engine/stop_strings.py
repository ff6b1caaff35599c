"""Stop strings: found in a stream of text pieces, across their borders."""

from __future__ import annotations

from collections.abc import Sequence


class StopStringMatcher:
    """Passes text on until a stop string appears; keeps back what may yet become one.

    The match that *ends* first counts (the longest of those that end together), so the result
    does not depend on how the text was cut into pieces. Nothing may be fed after a match.
    """

    def __init__(self, stop: Sequence[str], *, include_in_output: bool) -> None:
        self._stop = stop
        self._include_in_output = include_in_output
        self._held = ""
        """Always shorter than the longest stop string."""

    def feed(self, text: str) -> tuple[str, str | None]:
        """The text that is safe to show now, and the stop string if one is complete."""
        text = self._held + text
        match = self._first_match(text)
        if match is not None:
            end, begin, stop = match
            self._held = ""
            return text[: end if self._include_in_output else begin], stop
        num_safe = len(text) - self._num_undecided(text)
        self._held = text[num_safe:]
        return text[:num_safe], None

    def finish(self) -> str:
        """The text kept back, when no more is to come."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str) -> tuple[int, int, str] | None:
        matches = []
        for stop in self._stop:
            begin = text.find(stop)
            if begin >= 0:
                matches.append((begin + len(stop), begin, stop))
        return min(matches, default=None)

    def _num_undecided(self, text: str) -> int:
        """Length of the longest end of `text` that is the beginning of a stop string."""
        return max(
            (
                length
                for stop in self._stop
                for length in range(1, min(len(stop) - 1, len(text)) + 1)
                if text.endswith(stop[:length])
            ),
            default=0,
        )
