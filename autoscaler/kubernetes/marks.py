"""Marks on pods that are being emptied, and drains of them at the routers, kept as they should be.

The mark outlives us: whoever leads next takes back into use what nobody empties any more. What an
operator drains at a router has no mark, and is left alone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import structlog

from shoal.errors import ClusterError

from .api import MERGE_PATCH, Api
from .pods import DELETION_COST_ANNOTATION, DRAINING_ANNOTATION, Pod
from .routers import Place, Routers

EMPTIED_COST = "-1000000"

log = structlog.get_logger(__name__)


class Marks:
    """Of the pods of one target."""

    def __init__(self, api: Api, routers: Routers) -> None:
        self._api = api
        self._routers = routers
        self._drained: set[str] = set()
        """By us, in this life: pods may not let themselves be marked."""

    def may_write(self) -> bool:
        """Whether we still lead."""
        return self._api.may_write()

    def are_any(self, pods: Collection[Pod]) -> bool:
        """Whether there is something to take back into use."""
        return bool(self._drained) or any(_is_marked(pod) for pod in pods)

    async def places(self, pods: Collection[Pod]) -> list[Place] | None:
        """Where the routers know them; None: a router does not tell."""
        return await self._routers.places(pods)

    async def keep(
        self, pods: Collection[Pod], places: Collection[Place] | None, emptied: Collection[str]
    ) -> None:
        """Have exactly the pods named in `emptied` marked and drained; those that end stay so.

        Marked before it is drained, and drained no more before the mark goes: what fails in
        between, or has to wait for a router (`places` None), is found again by its mark.
        """
        living = {p.name: p for p in pods if p.metadata.deletion_timestamp is None}
        self._drained &= living.keys()
        for name in living.keys() & set(emptied):
            if not _is_marked(living[name]):
                await self._patch(living[name], _marked(living[name]))
        if places is None:
            return
        to_drain = [p for p in places if p.pod in emptied and p.pod in living]
        self._drained |= {place.pod for place in to_drain}
        await self._routers.drain([place for place in to_drain if not place.is_drained])
        released = {name for name, p in living.items() if _is_marked(p)} | self._drained
        released -= set(emptied)
        failed = await self._routers.undrain(
            [p for p in places if p.pod in released and p.is_drained]
        )
        self._drained -= released - failed
        for name in released - failed:
            if _is_marked(living[name]):
                await self._patch(living[name], _released(living[name]))

    async def _patch(self, pod: Pod, annotations: dict[str, str | None]) -> None:
        path = f"/api/v1/namespaces/{pod.metadata.namespace}/pods/{pod.name}"
        body: dict[str, Any] = {
            # With the uid: a StatefulSet may have made another pod of this name meanwhile.
            "metadata": {"uid": pod.metadata.uid, "annotations": annotations}
        }
        try:
            await self._api.write("PATCH", path, body, content_type=MERGE_PATCH)
        except ClusterError as error:
            log.warning("drain.not_marked", pod=pod.name, error=str(error))


def in_flight(places: Collection[Place]) -> dict[str, int]:
    """Requests by pod, at all routers together."""
    found: dict[str, int] = {}
    for place in places:
        found[place.pod] = found.get(place.pod, 0) + place.in_flight
    return found


def _is_marked(pod: Pod) -> bool:
    return DRAINING_ANNOTATION in pod.metadata.annotations


def _marked(pod: Pod) -> dict[str, str | None]:
    """The mark holds the deletion cost there was, to be put back."""
    cost = pod.metadata.annotations.get(DELETION_COST_ANNOTATION, "")
    marks: dict[str, str | None] = {DRAINING_ANNOTATION: cost}
    if pod.owner_kind == "ReplicaSet":
        marks[DELETION_COST_ANNOTATION] = EMPTIED_COST
    return marks


def _released(pod: Pod) -> dict[str, str | None]:
    before = pod.metadata.annotations.get(DRAINING_ANNOTATION) or None
    marks: dict[str, str | None] = {DRAINING_ANNOTATION: None}
    if pod.owner_kind == "ReplicaSet":
        marks[DELETION_COST_ANNOTATION] = before
    return marks
