"""The controller: each ScalingPolicy has one runner, started, changed and ended as the policy is.

It runs on the leader alone. A policy that is wrong is told so, and the others go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from shoal.clock import Clock
from shoal.errors import ConfigError

from ..settings.documents import RouterSettings
from .api import NOT_FOUND
from .conditions import Problem
from .definition import COLLECTION, PLURAL
from .event_writer import EventWriter
from .policy_object import PolicyObject, Scaled, of_object, regarding_of, taken
from .policy_runner import PolicyRunner, Services
from .report import Report, StatusWriter
from .watch import Watch

AFTER_FAULT_S = 10.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Running:
    """One policy: what it was made from, and its tasks."""

    uid: str
    """Of the object; empty: the policy is of a file."""
    report: Report
    writer: asyncio.Task[None] | None = None
    runner: asyncio.Task[None] | None = None
    scaled: Scaled | None = None
    problem: Problem | None = None


class Controller:
    """`run` while we lead; afterwards make another."""

    def __init__(
        self, services: Services, *, events: EventWriter, clock: Clock,
        namespaces: Sequence[str] = (), default_router: RouterSettings | None = None,
        from_file: Sequence[Scaled] | None = None,
    ) -> None:  # fmt: skip
        """Policies are those of the file, or the objects in these namespaces (empty: in all)."""
        self._services = services
        self._default_router = default_router
        self._from_file = from_file
        self._events = events
        self._clock = clock
        self._changed = asyncio.Event()
        self._running: dict[str, _Running] = {}
        self._has_hinted = False
        paths = [f"{COLLECTION}/namespaces/{name}/{PLURAL}" for name in namespaces]
        self._watches = [
            Watch(services.api, path, PolicyObject, clock=clock, on_change=self._changed.set)
            for path in (paths or [f"{COLLECTION}/{PLURAL}"])
        ]

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._events.run())
                if self._from_file is None:
                    for watch in self._watches:
                        tasks.create_task(watch.run())
                    tasks.create_task(self._follow())
                else:
                    await self._apply({scaled.key: scaled for scaled in self._from_file}, {}, {})
        finally:
            await self._end(self._running)

    async def _follow(self) -> None:
        """Do what the objects say, whenever one has changed and all are known."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if any(watch.age() is None for watch in self._watches):
                self._hint()
                continue
            objects = {
                f"{namespace}/{name}": found
                for watch in self._watches
                for (namespace, name), found in watch.objects.items()
            }
            wanted, problems = self._read(objects)
            uids = {key: found.metadata.uid for key, found in objects.items()}
            await self._end({k: r for k, r in self._running.items() if uids.get(k) != r.uid})
            await self._apply(wanted, problems, objects)

    def _hint(self) -> None:
        """What to do when the cluster does not know ScalingPolicies, said once."""
        problems = [watch.problem for watch in self._watches if watch.problem is not None]
        if not self._has_hinted and any(problem.status == NOT_FOUND for problem in problems):
            self._has_hinted = True
            hint = "kubectl apply -f deploy/autoscaler/crd.yaml, or give the policies by --file"
            log.error("policies.not_defined", hint=hint)

    def _read(
        self, objects: dict[str, PolicyObject]
    ) -> tuple[dict[str, Scaled], dict[str, Problem]]:
        """Those that can be carried out, and why the others cannot."""
        wanted: dict[str, Scaled] = {}
        problems: dict[str, Problem] = {}
        for key, found in objects.items():
            try:
                wanted[key] = of_object(found, self._default_router)
            except ConfigError as error:
                problems[key] = Problem("Invalid", str(error))
        problems |= taken(list(wanted.values()))
        return {key: s for key, s in wanted.items() if key not in problems}, problems

    async def _apply(
        self, wanted: dict[str, Scaled], problems: dict[str, Problem],
        objects: dict[str, PolicyObject],
    ) -> None:  # fmt: skip
        for key in wanted | problems:
            running = self._running.get(key)
            if running is None:
                running = self._running[key] = self._begin(key, objects.get(key))
            if key in problems:
                await self._refuse(running, problems[key], objects[key].metadata.generation)
            else:
                await self._use(running, wanted[key])

    def _begin(self, key: str, found: PolicyObject | None) -> _Running:
        log.info("policy.found", policy=key)
        regarding = None if found is None else regarding_of(found)
        report = Report(key=key, regarding=regarding, tell=self._events.tell, clock=self._clock)
        if found is None:
            return _Running("", report)
        metadata = found.metadata
        path = f"{COLLECTION}/namespaces/{metadata.namespace}/{PLURAL}/{metadata.name}"
        writer = StatusWriter(
            self._services.api, path, report, before=found.status, clock=self._clock
        )
        return _Running(metadata.uid, report, writer=_kept_at_work(key, writer.run))

    async def _refuse(self, running: _Running, problem: Problem, generation: int) -> None:
        await _cancelled(running.runner)
        running.runner, running.scaled = None, None
        if (problem, generation) != (running.problem, running.report.generation):
            running.problem = problem
            running.report.fails(problem, generation)

    async def _use(self, running: _Running, scaled: Scaled) -> None:
        before, running.scaled, running.problem = running.scaled, scaled, None
        if before is not None and replace(before, generation=0) == replace(scaled, generation=0):
            running.report.seen(scaled.generation)  # to begin anew would lose what was learnt
            return
        await _cancelled(running.runner)
        runner = PolicyRunner(scaled, running.report, self._services)
        running.runner = _kept_at_work(scaled.key, runner.run)

    async def _end(self, ending: dict[str, _Running]) -> None:
        for key, running in list(ending.items()):
            self._running.pop(key, None)
            await _cancelled(running.runner, running.writer)
            self._services.memory.remove(key)
            log.info("policy.left", policy=key)


def _kept_at_work(key: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """A fault of ours in one policy ends neither it nor the others."""

    async def again_and_again() -> None:
        while True:
            try:
                await work()
            except Exception:
                log.exception("policy.fault", policy=key)
            await asyncio.sleep(AFTER_FAULT_S)

    return asyncio.create_task(again_and_again())


async def _cancelled(*tasks: asyncio.Task[None] | None) -> None:
    """They have ended."""
    there = [task for task in tasks if task is not None]
    for task in there:
        task.cancel()
    await asyncio.gather(*there, return_exceptions=True)
