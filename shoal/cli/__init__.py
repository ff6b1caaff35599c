"""The `shoal` command line. Importing this loads no command: workers are started below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .command_line import app as app


def main() -> None:
    """The program `shoal`."""
    from .command_line import main

    main()


def __getattr__(name: str) -> Any:
    """`app`, with all its commands, for whoever asks for it."""
    if name == "app":
        from .command_line import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
