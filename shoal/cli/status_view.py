"""From what router and autoscaler say to tables on a terminal. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_STYLES = {
    "ready": "green", "starting": "yellow", "draining": "cyan", "stopping": "cyan",
    "backing_off": "red", "unhealthy": "red",
}  # fmt: skip


def render(found: Mapping[str, Any], *, now: float) -> RenderableType:
    """`found` as `shoal status --json` prints it; `now` in Unix seconds."""
    parts: list[RenderableType] = [_heading(found)]
    parts += [_model(model, found["held"]) for model in found["models"]]
    parts.append(_workers(found))
    if found["decisions"]:
        parts.append(_decisions(found["decisions"], now))
    return Group(*parts)


def _heading(found: Mapping[str, Any]) -> Text:
    told = [f"admin {found['admin_url']}"]
    if found["url"]:
        told = [f"API {found['url']}/v1", *told, f"pid {found['pid']}"]
    return Text("  ".join(told), style="dim")


def _model(model: Mapping[str, Any], held: Mapping[str, int]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("VARIANT")
    for name in ("DESIRED", "READY", "PENDING", "DRAINING", "BOUNDS"):
        table.add_column(name, justify="right")
    for variant in model["variants"]:
        table.add_row(
            variant["name"],
            *(_number(variant[name]) for name in ("desired", "ready", "pending", "draining")),
            f"{variant['min_replicas']} to {variant['max_replicas']}",
        )
    demand, attainment = model["demand"], model["attainment"]
    told = (
        f"{_number(demand['arrivals_per_s'])} requests/s, {_number(demand['queued'])} queued, "
        # The router's own word is newer than the last decision.
        f"{held.get(model['model'], 0)} held for a first worker, "
        f"{'-' if attainment is None else f'{attainment:.0%}'} in time"
    )
    title = Text(f"\n{model['model']}", style="bold").append(f"  {model['mode']}", style="dim")
    return Group(title, Text(told), table)


def _workers(found: Mapping[str, Any]) -> RenderableType:
    rows = [*_worker_rows(found)]
    if not rows:
        return Text("\nNo worker runs.", style="dim")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("WORKER", "STATE"):
        table.add_column(name)
    for name in ("PID", "PORT", "IN FLIGHT", "STARTS", "START-UP"):
        table.add_column(name, justify="right")
    table.add_column("NOTE", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return Group(Text(), table)


def _worker_rows(found: Mapping[str, Any]) -> Iterator[list[RenderableType]]:
    endpoints = {endpoint["endpoint_id"]: endpoint for endpoint in found["endpoints"]}
    for worker in found["workers"]:
        endpoint = endpoints.pop(worker["endpoint_id"], None)
        port = urlsplit(worker["url"]).port if worker["url"] else None
        note = worker["why"]
        if worker["next_start_in_s"] is not None:
            note = f"next start in {worker['next_start_in_s']:.0f} s: {note}"
        elif endpoint is not None and endpoint["status"] == "unhealthy":
            note = f"unhealthy: {endpoint.get('last_error') or 'no answer'}"
        yield [
            worker["name"],
            _state(worker["state"]),
            _number(worker["pid"]),
            _number(port),
            "-" if endpoint is None else str(endpoint["in_flight"]),
            str(worker["num_restarts"] + 1),
            "-" if worker["start_up_s"] is None else f"{worker['start_up_s']:.2f} s",
            note,
        ]
    for endpoint in endpoints.values():
        models = ", ".join(endpoint["models"])
        note = endpoint.get("last_error") or models
        yield [
            endpoint["endpoint_id"], _state(endpoint["status"]), "-",
            _number(urlsplit(endpoint["url"]).port), str(endpoint["in_flight"]), "-", "-", note,
        ]  # fmt: skip


def _decisions(decisions: list[Mapping[str, Any]], now: float) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("WHEN", "REPLICAS"):
        table.add_column(name)
    table.add_column("BECAUSE", overflow="fold")
    for decision in decisions:
        for variant, desired in decision["desired"].items():
            before = decision["before"].get(variant, 0)
            if before == desired:
                continue
            because = "; ".join(
                f"{reason['kind']}: {reason['detail']}"
                for reason in decision["reasons"]
                if reason["variant"] in (variant, "")
            )
            change = f"{before} -> {desired}" + ("" if decision["applied"] else " (not applied)")
            table.add_row(_when(decision["time"], now), change, because)
    return Group(Text(), table)


def _state(state: str) -> Text:
    return Text(state.replace("_", " "), style=_STYLES.get(state, ""))


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def _when(then: float, now: float) -> str:
    seconds = max(now - then, 0.0)
    if seconds < 100:
        return f"{seconds:.0f} s ago"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min ago"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(then))
