"""`shoal status`: what a running `shoal up`, or any router, has and does."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shoal.errors import ConfigError, ShoalError

if TYPE_CHECKING:
    import httpx

    from .running_up import RunningUp

DEFAULT_ADMIN_URL = "http://127.0.0.1:8081"
"""Of `shoal route` and `shoal serve --router`."""
REFRESH_S = 1.0
_TIMEOUT_S = 5.0


def status(
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=65535,
            help="Of the API of a shoal up on this machine.",
            show_default="the one that runs",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Address of an admin API, e.g. of shoal route.",
            show_default=f"that of shoal up, else {DEFAULT_ADMIN_URL}",
        ),
    ] = None,
    admin_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="SHOAL_ADMIN_KEY",
            help="Of the admin API, if it has keys.",
            show_default="none",
        ),
    ] = None,
    decisions: Annotated[
        int, typer.Option(metavar="N", min=0, max=1000, help="Latest changes to show.")
    ] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="All of it as one JSON object.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it anew every second, until Ctrl-C.")
    ] = False,
) -> None:
    """Show models, replicas, workers, who waits, and the latest scaling decisions.

    [bold]Examples[/bold]

    shoal status
    shoal status --port 8123 --watch
    shoal status --url http://10.0.0.7:8081 --json
    """
    import httpx
    import msgspec

    from .status_view import render

    admin_url, running = _find(port, url)
    headers = {"authorization": f"Bearer {admin_key}"} if admin_key else {}
    with httpx.Client(
        base_url=admin_url, headers=headers, timeout=_TIMEOUT_S, trust_env=False
    ) as client:

        def look() -> dict[str, Any]:
            return {
                "admin_url": admin_url,
                "url": None if running is None else running.url,
                "pid": None if running is None else running.pid,
                **_ask_all(client, decisions),
            }

        if as_json:
            typer.echo(msgspec.json.format(msgspec.json.encode(look())).decode())
            return
        from rich.console import Console

        console = Console()
        if not watch:
            console.print(render(look(), now=time.time()))
            return
        from rich.live import Live

        with (
            contextlib.suppress(KeyboardInterrupt),  # the way to end it
            Live(console=console, screen=console.is_terminal, auto_refresh=False) as live,
        ):
            while True:
                live.update(render(look(), now=time.time()), refresh=True)
                time.sleep(REFRESH_S)


def _find(port: int | None, url: str | None) -> tuple[str, RunningUp | None]:
    """The admin address, and the `shoal up` that has it. Raises ConfigError."""
    from .running_up import all_running

    if url is not None:
        if port is not None:
            raise ConfigError("--port and --url both say what to ask: give one")
        return url.rstrip("/"), None
    found = [running for running in all_running() if port in (None, running.port)]
    if len(found) == 1:
        return found[0].admin_url, found[0]
    if found:
        told = ", ".join(f"--port {running.port} ({running.model})" for running in found)
        raise ConfigError(f"several shoal up run here; say which: {told}")
    if port is not None:
        raise ConfigError(
            f"no shoal up of this user serves port {port} here; of a router give its admin "
            "address: --url"
        )
    return DEFAULT_ADMIN_URL, None


def _ask_all(client: httpx.Client, num_decisions: int) -> dict[str, Any]:
    """What router and autoscaler say; a router alone has no models to scale."""
    found = _ask(client, "/admin/endpoints")
    if found is None:
        raise ShoalError(f"{client.base_url} is no admin API of a router")
    # Only those that changed something are told: most change nothing.
    latest = _listed(client, "decisions", "?limit=1000") if num_decisions else []
    decided = [
        decision
        for decision in latest
        if any(n != decision["before"].get(name) for name, n in decision["desired"].items())
    ]
    return {
        "endpoints": found["endpoints"],
        "held": found["held"],
        "models": _listed(client, "models"),
        "workers": _listed(client, "workers"),
        "decisions": decided[:num_decisions],
    }


def _listed(client: httpx.Client, name: str, query: str = "") -> list[Any]:
    """Of the autoscaler; a router alone has none of them. Raises ShoalError."""
    found = _ask(client, f"/autoscaler/{name}{query}")
    return [] if found is None else list(found[name])


def _ask(client: httpx.Client, path: str) -> Any:
    """None: there is no such route. Raises ShoalError."""
    import httpx

    try:
        answer = client.get(path)
    except httpx.HTTPError as error:
        raise ShoalError(
            f"nothing answers at {client.base_url} ({error or type(error).__name__}). "
            "Is it running? Start one: shoal up MODEL"
        ) from error
    if answer.status_code in (401, 403):
        raise ShoalError(f"{client.base_url} wants a key: --admin-key, or SHOAL_ADMIN_KEY")
    if answer.status_code == 404:
        return None
    if answer.status_code != 200:
        raise ShoalError(f"{client.base_url}{path} answered {answer.status_code}")
    return answer.json()
