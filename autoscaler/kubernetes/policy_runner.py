"""One policy at work: find its targets, run its loop, begin anew when a target is another."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import structlog

from shoal.clock import Clock
from shoal.errors import ClusterError, ConfigError

from ..collect.collector import HttpCollector
from ..loop import ModelLoop
from ..policy import Mode
from ..record.decision_record import Recorder, Recorders
from ..record.log import DecisionLog, log_path
from ..record.memory import Memory
from ..settings.router_key import router_key
from ..telemetry import Telemetry
from .api import Api
from .conditions import Problem
from .edits import Edit
from .events import Regarding
from .group_size import check_group_size
from .kserve import is_kserve, resolve
from .policy_object import Scaled
from .report import Report
from .resources import Reference, Resources, Unscalable
from .routers import Routers
from .scale_target import Listeners, Options, ScaleTarget, open_target

FIRST_RETRY_S = 1.0
MAX_RETRY_S = 30.0
CHECK_EVERY_S = 15.0
"""So often it is asked whether a target is still what it was."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What all policies of the process share."""

    api: Api
    resources: Resources
    client: httpx.AsyncClient
    """For routers and workers."""
    clock: Clock
    drain_timeout_s: float
    memory: Memory
    telemetry: Telemetry
    environ: Mapping[str, str]
    """Where keys of routers are."""
    decision_log_dir: Path | None = None
    """Each policy has a file there; None: no log."""


class PolicyRunner:
    """`run` is a task of the controller, and ends by cancellation."""

    def __init__(self, scaled: Scaled, report: Report, services: Services) -> None:
        self._scaled = scaled
        self._report = report
        self._services = services
        self._loop: ModelLoop | None = None

    async def run(self) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            try:
                targets = await self._open()
                retry_s = FIRST_RETRY_S
                await self._scale(targets)
            except _TargetsChanged as change:
                log.info("policy.begins_anew", policy=self._scaled.key, reason=str(change))
                continue
            except Unscalable as error:
                problem = Problem(error.reason, str(error))
            except ClusterError as error:
                problem = Problem("ApiUnreachable", str(error))
            except ConfigError as error:
                problem = Problem("Invalid", str(error))
            self._report.fails(problem, self._scaled.generation)
            await asyncio.sleep(retry_s * random.uniform(0.8, 1.2))
            retry_s = min(MAX_RETRY_S, 2 * retry_s)

    async def _open(self) -> dict[str, ScaleTarget]:
        """Raises ClusterError, ConfigError."""
        api, resources = self._services.api, self._services.resources
        policy, key = self._scaled.loaded.policy, self._key()
        sizes = {v.name: v.pods_per_replica for v in policy.spec.variants}
        routers = Routers(self._services.client, self._scaled.router_urls, key)
        targets = {}
        for variant, named in self._scaled.targets.items():
            reference = await resolve(api, named)
            await check_group_size(api, resources, reference, sizes[variant])
            targets[variant] = await open_target(
                api,
                resources,
                reference,
                routers=routers,
                options=Options(
                    pods_per_replica=sizes[variant],
                    drain_timeout_s=self._services.drain_timeout_s,
                    reads_only=policy.mode is Mode.ADVISE,
                ),
                listeners=Listeners(on_edit=partial(self._edited, variant), on_trouble=self._wake),
                clock=self._services.clock,
            )
        return targets

    async def _scale(self, targets: dict[str, ScaleTarget]) -> None:
        """Until cancelled. Raises _TargetsChanged."""
        scaled, services = self._scaled, self._services
        policy = scaled.loaded.policy
        memory = services.memory.add(policy, name=scaled.key)
        collector = HttpCollector(
            policy, services.client, router_urls=scaled.router_urls, router_key=self._key(),
            endpoint_labels=scaled.loaded.endpoint_labels,
            on_error=partial(services.telemetry.collector_failed, memory),
        )  # fmt: skip
        recorders: list[Recorder] = [memory, services.telemetry.recorder(memory), self._report]
        if (decision_log := self._decision_log()) is not None:
            recorders.append(decision_log)
        self._loop = ModelLoop(
            policy,
            targets,
            collector=collector,
            recorder=Recorders(*recorders),
            clock=services.clock,
            state=memory.learnt(),
        )
        self._report.starts(
            mode=policy.mode,
            generation=scaled.generation,
            targets={name: (t, _regarding(t.reference)) for name, t in targets.items()},
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                for target in targets.values():
                    tasks.create_task(target.run())
                tasks.create_task(self._loop.run())
                tasks.create_task(self._check(targets))
        except* _TargetsChanged as group:
            change = group.exceptions[0]
        else:
            return
        finally:
            self._loop = None
            if decision_log is not None:
                decision_log.close()
        raise change

    async def _check(self, targets: dict[str, ScaleTarget]) -> None:
        """Raises _TargetsChanged, in a group, when another object has to be scaled."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            for variant, target in targets.items():
                if target.is_replaced:
                    raise _TargetsChanged(f"{target.reference} has other pods than before")
                reference = self._scaled.targets[variant]
                if not is_kserve(reference):
                    continue
                try:
                    found = await resolve(self._services.api, reference)
                except Unscalable as error:
                    raise _TargetsChanged(str(error)) from error
                except ClusterError:
                    continue  # it is not known for the moment
                if found != target.reference:
                    raise _TargetsChanged(f"{reference} is served by {found} now")

    def _decision_log(self) -> DecisionLog | None:
        """That it cannot be written keeps nobody from scaling."""
        folder = self._services.decision_log_dir
        if folder is None:
            return None
        try:
            return DecisionLog(log_path(folder, self._scaled.key), self._scaled.loaded.policy)
        except ConfigError as error:
            log.warning("decision_log.unavailable", policy=self._scaled.key, error=str(error))
            return None

    def _edited(self, variant: str, edit: Edit) -> None:
        self._report.edited(variant, edit)
        self._wake()

    def _wake(self) -> None:
        if self._loop is not None:
            self._loop.wake()

    def _key(self) -> str | None:
        """Raises ConfigError."""
        return router_key(self._scaled.key_env, self._services.environ)


class _TargetsChanged(Exception):
    """What is scaled has to be found anew."""


def _regarding(reference: Reference) -> Regarding:
    return Regarding(
        api_version=reference.api_version, kind=reference.kind, namespace=reference.namespace,
        name=reference.name,
    )  # fmt: skip
