"""`shoal autoscale run` as processes, one namespace each."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import httpx

from tests.router.e2e.processes import Nursery, Program

from .api import Api, Json, at
from .eventually import eventually

LEASE = "shoal-autoscaler"
TAIL = 30


class Autoscaler:
    """One process."""

    def __init__(self, program: Program) -> None:
        self.program = program

    async def admin_url(self) -> str:
        """As soon as it has said where."""
        found = await eventually(
            lambda: re.search(r"Admin API on port (\d+)", self.program.said()), "its admin port"
        )
        return f"http://127.0.0.1:{found[1]}"

    async def get(self, path: str) -> Any:
        """JSON of its admin API."""
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            response = await client.get(f"{await self.admin_url()}{path}")
            response.raise_for_status()
            return response.json()

    async def num_decisions(self) -> int:
        """Times it has decided, as its own metrics count them."""
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            page = (await client.get(f"{await self.admin_url()}/metrics")).text
        return sum(
            int(float(line.rsplit(" ", 1)[1]))
            for line in page.splitlines()
            if line.startswith("shoal_autoscaler_decisions_total")
        )

    async def decides(self, times: int) -> None:
        """Waits for so many more decisions."""
        before = await self.num_decisions()

        async def enough() -> bool:
            return await self.num_decisions() >= before + times

        await eventually(enough, f"{times} decisions more than {before}")

    def faults(self) -> list[str]:
        """Exceptions that nobody meant to happen; it goes on after them."""
        lines = [line for line in self.program.said().splitlines() if '.fault"' in line]
        return [json.loads(line).get("exception", line) for line in lines]

    def tail(self) -> str:
        lines = self.program.said().splitlines()
        return "\n".join(lines[-TAIL:])


class Autoscalers:
    """Starts them, and ends those that are left."""

    def __init__(
        self, nursery: Nursery, kubeconfig: Path, namespace: str, *, everywhere: bool = False
    ) -> None:
        """`everywhere`: for the policies of all namespaces."""
        self.started: list[Autoscaler] = []
        self._nursery = nursery
        self._kubeconfig = kubeconfig
        self._namespaces = () if everywhere else ("--namespace", namespace)
        self._numbers = itertools.count()

    def start(self, *more: str) -> Autoscaler:
        """With the rights of the deployed one."""
        program = self._nursery.start(
            "autoscale", "run", "--kubeconfig", str(self._kubeconfig), "--admin-port", "0",
            "--log-format", "json", *self._namespaces, *more,
        )  # fmt: skip
        self.started.append(Autoscaler(program))
        return self.started[-1]

    def close(self) -> None:
        for each in self.started:
            each.program.close()


async def conditions(api: Api, namespace: str, name: str) -> dict[str, Json]:
    """Of a policy, by type."""
    found = await api.get(at("scalingpolicies", namespace, name))
    return {each["type"]: each for each in found.get("status", {}).get("conditions", [])}


async def until_condition(
    api: Api, namespace: str, kind: str, status: str, reason: str, name: str = "m"
) -> Json:
    """Waits for a condition of a policy; it."""

    async def look() -> Json | None:
        each = (await conditions(api, namespace, name)).get(kind)
        is_it = each is not None and (each["status"], each["reason"]) == (status, reason)
        return each if is_it else None

    return await eventually(look, f"{kind}={status}, {reason} of {name}")


async def until_event(api: Api, namespace: str, reason: str) -> Json:
    """Waits for an Event with this reason; its first."""

    async def look() -> Json | None:
        return next(iter(await events(api, namespace, reason)), None)

    return await eventually(look, f"an Event {reason}")


async def events(api: Api, namespace: str, reason: str) -> list[Json]:
    return [e for e in await api.items(at("events", namespace)) if e["reason"] == reason]
