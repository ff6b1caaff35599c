"""Sources in trouble, told once when it begins and once when it is over."""

from __future__ import annotations

from collections.abc import Callable

import structlog

MAX_TOLD = 3
"""Addresses in one line of the log."""
_log = structlog.get_logger(__name__)


class Troubles:
    """Of the sources of one model, by address."""

    def __init__(self, model: str, on_error: Callable[[], None]) -> None:
        """`on_error` is called for each."""
        self._on_error = on_error
        self._log = _log.bind(model=model)
        self._before: dict[str, str] = {}
        self._now: dict[str, str] = {}
        self._told: set[str] = set()

    def note(self, url: str, error: Exception) -> None:
        """It did not answer, or made no sense."""
        self._on_error()
        self._now[url] = str(error)

    def end_look(self) -> None:
        """One line for all that failed twice in a row, and one for those that answer again.

        Once is a start, or chance; and a network that is cut takes hundreds of workers at once.
        """
        begun = self._now.keys() & self._before.keys() - self._told
        ended = self._told - self._now.keys()
        if begun:
            errors = [self._now[url] for url in sorted(begun)[:MAX_TOLD]]
            self._log.warning("sources.unavailable", num=len(begun), errors=errors)
        if ended:
            self._log.info("sources.back", num=len(ended), urls=sorted(ended)[:MAX_TOLD])
        self._told = (self._told | begun) - ended
        self._before, self._now = self._now, {}
