"""Text that came from a server or a file, made fit to be shown."""

from __future__ import annotations

import re

# Control characters steer terminals and are not allowed in XML; lone surrogates cannot be encoded.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: object, *, max_chars: int = 2000) -> str:
    """Without characters that do something else than show, and cut to a length."""
    cleaned = _UNPRINTABLE.sub("\ufffd", str(text))
    return cleaned if len(cleaned) <= max_chars else cleaned[: max_chars - 1] + "…"


def one_line(text: object, *, max_chars: int = 200) -> str:
    """The same with every run of white space as one space."""
    return printable(" ".join(str(text).split()), max_chars=max_chars)
