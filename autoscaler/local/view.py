"""`GET /autoscaler/workers`: the worker processes of this machine, for `shoal status`."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from fastapi import FastAPI
from starlette.responses import Response

from shoal.admin.app import json_response

from .lifecycle import WorkerState
from .supervisor import Supervisor, Worker


class WorkerView(msgspec.Struct, kw_only=True):
    """One worker; null is "none"."""

    name: str
    state: str
    since_s: float
    """How long it has been in this state."""
    pid: int | None
    url: str | None
    """Where it serves."""
    endpoint_id: str | None
    """As the router lists it."""
    start_up_s: float | None
    num_restarts: int
    why: str
    """How its last process ended that was not to end."""
    next_start_in_s: float | None


class WorkersView(msgspec.Struct):
    workers: list[WorkerView]
    spare_pid: int | None = None
    """Of the process without a model that waits for the next start."""


def workers_view(supervisor: Supervisor) -> WorkersView:
    """By name."""
    workers = sorted(supervisor.workers.values(), key=lambda worker: worker.slot)
    views = [_view(worker, supervisor.now()) for worker in workers]
    return WorkersView(views, supervisor.spare_pid)


def add_worker_routes(app: FastAPI, supervisor: Callable[[], Supervisor | None]) -> None:
    """An admin app's; before there is a supervisor there are no workers."""

    @app.get("/autoscaler/workers")
    async def workers() -> Response:
        """Worker processes of this machine: state, process, address, why the last one ended."""
        found = supervisor()
        return json_response(WorkersView([]) if found is None else workers_view(found))


def _view(worker: Worker, now: float) -> WorkerView:
    life = worker.life
    next_start_in_s = None
    if life.state is WorkerState.BACKING_OFF and life.deadline is not None:
        next_start_in_s = round(max(life.deadline - now, 0.0), 3)
    return WorkerView(
        name=worker.name,
        state=life.state.value,
        since_s=round(now - life.since, 3),
        pid=None if worker.process is None else worker.process.pid,
        url=worker.url,
        endpoint_id=worker.endpoint_id,
        start_up_s=None if worker.start_up_s is None else round(worker.start_up_s, 3),
        num_restarts=worker.num_restarts,
        why=worker.why,
        next_start_in_s=next_start_in_s,
    )
