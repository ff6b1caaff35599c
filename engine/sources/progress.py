"""How long work (pulling, unpacking, loading) tells a person how far it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Progress(Protocol):
    """Receives progress; called often and from the working thread, so it must be cheap."""

    def update(self, stage: str, done: int, total: int | None) -> None:
        """`stage` is a short text; `done` of `total` (None: not known) bytes or tensors."""
        ...


class NoProgress:
    """For callers that do not want to know."""

    def update(self, stage: str, done: int, total: int | None) -> None:
        return None


def report(names: Iterable[str], total: int, progress: Progress | None) -> None:
    """Go through the names of tensors as they are loaded, and tell of each."""
    for done, _name in enumerate(names, start=1):
        if progress is not None:
            progress.update("loading weights", done, total)
