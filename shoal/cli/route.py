"""`shoal route`: one address in front of several workers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .announcement import base_url, request_example
from .options import NETWORK, OPERATIONS, AllowOpen, LogFormat, LogLevel

if TYPE_CHECKING:
    from shoal.router.control.run import Serving

WORKERS = "Workers"

Policy = Literal[
    "cost",
    "round_robin",
    "random",
    "power_of_two",
    "least_loaded",
    "session",
    "prefix",
    "prefix_exact",
]


def route(
    worker: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Address of a worker, such as http://10.0.0.7:8000; may be given several times. "
            "Added to those of the file.",
            show_default="those of the file",
            rich_help_panel=WORKERS,
        ),
    ] = None,
    policy: Annotated[
        Policy | None,
        typer.Option(help="How a worker is chosen.", show_default="cost", rich_help_panel=WORKERS),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="YAML file with all settings; options win over it.",
            rich_help_panel=OPERATIONS,
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on; 0.0.0.0 is all of them.",
            show_default="127.0.0.1",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=65535,
            help="0 takes a free one.",
            show_default="8080",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=128,
            help="Processes that take requests; one serves some thousand a second.",
            show_default="1",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with one key a line that clients may send. Keys with models and limits of "
            "their own: auth.keys_file in the configuration.",
            show_default="open to this machine",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    allow_open: AllowOpen = False,
    admin_host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address of the admin API and of /metrics.",
            show_default="127.0.0.1",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    admin_port: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=65535,
            help="0 takes a free one.",
            show_default="8081",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    admin_key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with one key a line that opens the admin API.",
            show_default="open to this machine",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Read the configuration again when a file of it changes (also: SIGHUP).",
            rich_help_panel=OPERATIONS,
        ),
    ] = False,
    takeover: Annotated[
        bool,
        typer.Option(
            "--takeover",
            help="Take the place of the router that serves this address; no request is lost.",
            rich_help_panel=OPERATIONS,
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Check the configuration and end.",
            rich_help_panel=OPERATIONS,
        ),
    ] = False,
    print_schema: Annotated[
        bool,
        typer.Option(
            "--print-schema",
            help="Print the JSON schema of the configuration file and end.",
            rich_help_panel=OPERATIONS,
        ),
    ] = False,
    log_format: LogFormat = "console",
    log_level: LogLevel = "info",
) -> None:
    """Route requests to several workers: Shoal, vLLM, SGLang, or any with the OpenAI API.

    Ctrl-C ends the router when running requests are done; a second one ends it at once.

    [bold]Examples[/bold]

    shoal route --worker http://10.0.0.7:8000 --worker http://10.0.0.8:8000
    shoal route --config router.yaml --watch
    """
    if print_schema:
        from shoal.router.control.schema import schema_text

        typer.echo(schema_text(), nl=False)
        return
    from shoal.log import configure_logging
    from shoal.router.control import run
    from shoal.router.control.load import Source, load

    given: dict[str, dict[str, Any]] = {
        "listen": {
            "host": host,
            "port": port,
            "processes": processes,
            "allow_open": allow_open or None,
        },
        "admin": {
            "host": admin_host,
            "port": admin_port,
            "api_keys_file": None if admin_key_file is None else str(admin_key_file),
        },
        "routing": {"policy": policy},
        "discovery": {"static": [{"url": url} for url in worker or ()] or None},
    }
    source = Source(file=config, overrides=_said(given), api_keys_file=api_key_file)
    if check:
        load(source)
        typer.echo("The configuration is good.")
        return
    configure_logging(log_format, level=log_level)
    run.serve(
        run.prepare(source, takeover=takeover),
        command=run.proxy_command(log_format, log_level),
        watches=watch,
        on_ready=lambda serving: typer.echo(route_announcement(serving)),
    )


def route_announcement(serving: Serving) -> str:
    """Several lines of text: where it listens, what it found, and a command that works."""
    url = base_url(serving.host, serving.port)
    if serving.uses_tls:
        url = url.replace("http://", "https://", 1)
    workers = serving.endpoints
    count = "1 worker" if len(workers) == 1 else f"{len(workers)} workers"
    lines = [f"Routing to {count} on {url}/v1"]
    for each in workers:
        served = ", ".join(sorted(each["models"])) or "no model yet"
        lines.append(f"  {each['url']}  {each['engine']}  {each['status']}  {served}")
    admin = base_url(serving.admin_host, serving.admin_port)
    if not workers:
        lines.append(
            f'  Add one: curl {admin}/admin/endpoints -d \'{{"url": "http://127.0.0.1:8000"}}\''
        )
    lines.append(f"Console on {admin}")
    lines.append(f"Admin API on {admin}: /metrics, /admin/endpoints, /debug/decisions")
    if serving.replaced_pid is not None:
        lines.append(f"The router before this one (pid {serving.replaced_pid}) ends by itself.")
    models = sorted({model for each in workers for model in each["models"]})
    if models:
        lines += ["", request_example(url, model=models[0], needs_key=serving.needs_key)]
    lines += ["", "Ctrl-C stops the router."]
    return "\n".join(lines)


def _said(options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Without what was not given."""
    said = {
        topic: {name: value for name, value in settings.items() if value is not None}
        for topic, settings in options.items()
    }
    return {topic: settings for topic, settings in said.items() if settings}
