"""`shoal keys`: API keys of the router, in a file that holds their hashes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shoal.errors import ConfigError

if TYPE_CHECKING:
    from shoal.router.access.keys import KeyEntry

app = typer.Typer(no_args_is_help=True, help="API keys of the router: add, list, remove.")

LIMITS = "Limits"
File = Annotated[
    Path,
    typer.Option(
        "--file",
        metavar="FILE",
        dir_okay=False,
        help="YAML file with the hashes of the keys: auth.keys_file of the router.",
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="0: none.",
        show_default="the router's",
        rich_help_panel=LIMITS,
    ),
]


@app.command()
def add(
    file: File,
    name: Annotated[
        str,
        typer.Option(metavar="NAME", help="What logs and limits call it.", show_default=False),
    ],
    tenant: Annotated[
        str | None,
        typer.Option(
            metavar="TENANT",
            help="Whose it is; tenants share workers fairly, and usage is counted by them.",
            show_default="the name",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="A model it may use; may be given several times.",
            show_default="all",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    requests_per_minute: Limit = None,
    tokens_per_minute: Limit = None,
    max_parallel: Limit = None,
    priority: Annotated[
        int,
        typer.Option(metavar="P", help="Lower is served first.", rich_help_panel=LIMITS),
    ] = 0,
    weight: Annotated[
        float,
        typer.Option(
            metavar="W",
            help="Share when tenants compete: 2 gets twice the tokens of 1.",
            rich_help_panel=LIMITS,
        ),
    ] = 1.0,
) -> None:
    """Make a key and print it, once; the file gets its hash. The router reads the file again."""
    from shoal.router.access.keys import KeyEntry, generate_key, key_digest
    from shoal.router.access.keys_file import add_key

    key = generate_key()
    try:
        entry = KeyEntry(
            name=name,
            sha256=key_digest(key),
            tenant=tenant,
            models=tuple(model) if model else None,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            max_parallel_requests=max_parallel,
            priority=priority,
            weight=weight,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None
    add_key(file, entry)
    typer.echo(key)
    typer.echo(f"Added {name} to {file}. The key is shown this once: keep it safe.", err=True)


@app.command("list")
def list_keys(file: File) -> None:
    """List the keys of FILE: names, models and limits."""
    from shoal.router.access.keys_file import read_keys

    entries = read_keys(file)
    if not entries:
        typer.echo(f"No key yet. Make one: shoal keys add --file {file} --name NAME", err=True)
        return
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        typer.echo(f"{entry.name:{width}}  {describe(entry)}")


@app.command()
def remove(
    file: File,
    name: Annotated[str, typer.Option(metavar="NAME", help="Of the key.", show_default=False)],
) -> None:
    """Take a key out of FILE; the router refuses it from its next reload on."""
    from shoal.router.access.keys_file import remove_key

    remove_key(file, name)
    typer.echo(f"Removed {name} from {file}.", err=True)


def describe(entry: KeyEntry) -> str:
    """One line of what is special about a key."""
    parts = ["models: all" if entry.models is None else f"models: {', '.join(entry.models)}"]
    if entry.tenant is not None:
        parts.insert(0, f"tenant: {entry.tenant}")
    for label, limit in (
        ("requests/min", entry.requests_per_minute),
        ("tokens/min", entry.tokens_per_minute),
        ("in parallel", entry.max_parallel_requests),
    ):
        if limit is not None:
            parts.append(f"{label}: {limit or 'no limit'}")
    if entry.priority:
        parts.append(f"priority: {entry.priority}")
    if entry.weight != 1:
        parts.append(f"weight: {entry.weight:g}")
    return "; ".join(parts)
