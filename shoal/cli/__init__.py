"""The `shoal` command line: one file per command, heavy imports inside the commands."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True)


def main() -> None:
    """Entry point of the console script."""
    app()
