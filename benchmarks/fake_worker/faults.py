"""What a fake worker does wrong, on purpose and by a seeded die."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

import msgspec

from shoal.errors import ConfigError


class FaultKind(StrEnum):
    """Ways to fail a request."""

    ERROR = "error"
    """HTTP 500 at once."""
    OVERLOAD = "overload"
    """HTTP 503 with Retry-After."""
    ABORT = "abort"
    """The connection closes before a byte of an answer."""
    HANG = "hang"
    """No answer until the client gives up."""
    CUT = "cut"
    """The connection closes after some tokens."""
    STALL = "stall"
    """The stream stops after some tokens and stays open."""
    WRONG_LENGTH = "wrong-length"
    """The answer ends, in good form, after some tokens."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One switch."""

    kind: FaultKind
    probability: float = 1.0
    after_tokens: int = 3
    """For the kinds that begin an answer."""

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be in [0, 1], got {self.probability}")
        if self.after_tokens < 0:
            raise ValueError(f"after_tokens must be at least 0, got {self.after_tokens}")


def parse_fault(text: str) -> Fault:
    """`KIND[:PROBABILITY[:AFTER_TOKENS]]`. Raises ConfigError with the kinds."""
    kind, _, rest = text.partition(":")
    probability, _, after = rest.partition(":")
    try:
        return Fault(
            kind=FaultKind(kind),
            probability=float(probability) if probability else 1.0,
            after_tokens=int(after) if after else 3,
        )
    except ValueError as error:
        kinds = ", ".join(FaultKind)
        raise ConfigError(
            f"{text!r} is not a fault ({error}); give KIND[:PROBABILITY[:AFTER_TOKENS]], for"
            f" example cut:0.1:5, KIND one of {kinds}"
        ) from None


class Faults:
    """The switches and the die; `counts` says how often each came up."""

    def __init__(self, switches: Iterable[Fault] = (), *, seed: int = 0) -> None:
        self.switches = tuple(switches)
        self.counts: Counter[FaultKind] = Counter()
        self._die = random.Random(f"faults:{seed}")

    def draw(self) -> Fault | None:
        """The fault of the next request: the first switch whose die comes up."""
        for switch in self.switches:
            if self._die.random() < switch.probability:
                self.counts[switch.kind] += 1
                return switch
        return None
