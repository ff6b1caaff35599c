"""Results that may not be there yet, and the adapter for those that always are.

What computes on a device of its own answers before it has computed; the host prepares the next
step meanwhile. What computes on the host is done when it answers, and wraps its result.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Pending(Protocol[T_co]):
    """A result under way."""

    def result(self) -> T_co:
        """Wait for it; a second call gives the same again. Raises what the computation raised."""
        ...


class Computed(Generic[T]):
    """A `Pending` whose result was there when it was made: steps that do not overlap."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def result(self) -> T:
        return self._value
