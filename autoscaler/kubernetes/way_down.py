"""The way down of one target: empty the pods that will be deleted, then lower replicas.

While it is under way a decision may ask for fewer still, or for more again: what is emptied
follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from shoal.clock import Clock
from shoal.errors import ScaleFailed

from .emptying import Emptying, Leaving
from .marks import Marks, in_flight
from .pods import Pod, num_living
from .watch import Watch
from .workload import Workload

POLL_S = 1.0
"""So often the routers are looked at on the way down."""
RETRY_S = 5.0
"""And when pods could not be taken back into use."""
IDLE_S = 60.0
RELEASE_S = 3.0
STALE_S = 60.0
"""Pods that nobody has confirmed for longer are not known."""

log = structlog.get_logger(__name__)


class Lowered(Protocol):
    """The target whose replicas are lowered in the end."""

    @property
    def present(self) -> int:
        """`spec.replicas`."""

    async def lower(self, keep: int, still: Callable[[], bool]) -> bool:
        """Set it, if that is `still` wanted when its turn comes. Raises ScaleFailed when it was
        not taken."""


class WayDown:
    """`run` is a task of the target."""

    def __init__(
        self, target: Lowered, pods: Watch[Pod], workload: Workload, marks: Marks, *,
        timeout_s: float, clock: Clock, on_trouble: Callable[[], None],
    ) -> None:  # fmt: skip
        """`on_trouble` hears when replicas were not lowered after all."""
        self._target = target
        self._pods = pods
        self._workload = workload
        self._marks = marks
        self._timeout_s = timeout_s
        self._clock = clock
        self._on_trouble = on_trouble
        self._emptying: Emptying | None = None
        self._leaving = Leaving()
        self._nudged = asyncio.Event()

    @property
    def keep(self) -> int | None:
        """To where it goes; None: it is not under way."""
        return None if self._emptying is None else self._emptying.keep

    def given_up(self) -> frozenset[str]:
        """Names of the pods that are emptied or about to be deleted for it."""
        chosen = frozenset() if self._emptying is None else frozenset(self._emptying.since)
        return chosen | self._leaving.names(self._clock.now())

    def start(self, keep: int) -> bool:
        """False: no pod that is to go has anything to do, so replicas may be lowered at once."""
        if not self._victims(list(self._pods.objects.values()), keep, {}):
            return False
        if self._emptying is None:
            self._emptying = Emptying(keep, self._timeout_s)
        self._emptying.keep = keep
        self._nudged.set()
        return True

    def stop(self) -> None:
        """All pods are wanted."""
        self._emptying = None
        self._leaving.clear()
        self._nudged.set()

    async def run(self) -> None:
        try:
            while True:
                age = self._pods.age()
                if age is not None and age < STALE_S:
                    await self._step(list(self._pods.objects.values()))
                await _event_within(self._nudged, self._pause_s())
        finally:
            await self._release()

    def _pause_s(self) -> float:
        if self._emptying is not None or self._pods.age() is None:
            return POLL_S
        return RETRY_S if self._marks.are_any(list(self._pods.objects.values())) else IDLE_S

    async def _release(self) -> None:
        """Who stops in the middle takes back into use what it was emptying: nobody may follow.

        Not who was deposed: those pods are another's by now, and so are our marks on them.
        """
        if self._emptying is None or not self._marks.may_write():
            return
        self._emptying = None
        try:
            async with asyncio.timeout(RELEASE_S):
                await self._step(list(self._pods.objects.values()))
        except TimeoutError:
            log.warning("drain.not_released")

    async def _step(self, pods: list[Pod]) -> None:
        emptying = self._emptying
        if emptying is None and num_living(pods) <= self._target.present:
            self._leaving.clear()  # its controller has deleted others: those that are left stay
        if emptying is None and not self._marks.are_any(pods):
            return
        places = await self._marks.places(pods)
        loads = None if places is None else in_flight(places)
        if emptying is not None:
            chosen = self._victims(pods, emptying.keep, loads or {})
            emptying.choose({pod.name for pod in chosen}, self._clock.now())
        await self._marks.keep(pods, places, self.given_up())
        if emptying is not None and emptying.is_done(loads, self._clock.now()):
            await self._lower(emptying, emptying.keep)

    async def _lower(self, emptying: Emptying, keep: int) -> None:
        def is_wanted() -> bool:
            """A decision may have asked for another number meanwhile."""
            return self._emptying is emptying and emptying.keep == keep

        try:
            if not await self._target.lower(keep, is_wanted):
                return
        except ScaleFailed as error:
            log.warning("drain.not_lowered", keep=keep, error=str(error))
            if is_wanted():
                self.stop()
            self._on_trouble()
            return
        log.info("drain.done", keep=keep, pods=sorted(emptying.since))
        self._leaving.add(emptying.since, self._clock.now())
        if is_wanted():
            self._emptying = None

    def _victims(self, pods: list[Pod], keep: int, loads: dict[str, int]) -> list[Pod]:
        already = () if self._emptying is None else self._emptying.since
        return self._workload.victims(pods, self._target.present, keep, loads, already)


async def _event_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
    event.clear()
