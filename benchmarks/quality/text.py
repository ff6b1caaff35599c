"""Text that every Python has: the language reference that its `help()` shows, some 700 kB."""

from __future__ import annotations

from pydoc_data.topics import topics


def reference_text() -> str:
    """The topics of `help()` in alphabetical order: English prose about one subject, with code."""
    return "\n\n".join(topics[name].strip() for name in sorted(topics))
