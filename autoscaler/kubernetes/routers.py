"""The routers' admin API, for what a drain needs: requests in flight by pod, drain and undrain.

A pod is found by its address, or by its name, which is the endpoint's id where the router follows
EndpointSlices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import httpx
import msgspec
import structlog

from ..collect.fetch import Unavailable, fetch
from .pods import Pod

TIMEOUT_S = 3.0

log = structlog.get_logger(__name__)


class _Endpoint(msgspec.Struct):
    endpoint_id: str
    url: str = ""
    in_flight: int = 0
    is_drained: bool = False
    is_leaving: bool = False


class _Endpoints(msgspec.Struct):
    endpoints: list[_Endpoint] = []


@dataclass(frozen=True, slots=True)
class Place:
    """A pod at one router."""

    router: str
    endpoint_id: str
    pod: str
    in_flight: int
    is_drained: bool
    """By an operator, or by us."""


class Routers:
    """All replicas of the router that serve one model."""

    def __init__(
        self, client: httpx.AsyncClient, urls: Sequence[str], key: str | None = None
    ) -> None:
        self._client = client
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._urls = tuple(url.rstrip("/") for url in urls)

    async def places(self, pods: Collection[Pod]) -> list[Place] | None:
        """Where these pods are known; None: a router does not answer."""
        answers = await asyncio.gather(*(self._endpoints(url) for url in self._urls))
        if any(answer is None for answer in answers):
            return None
        by_name = {pod.name: pod.name for pod in pods}
        by_address = {pod.status.pod_ip: pod.name for pod in pods if pod.status.pod_ip}
        found = []
        for url, endpoints in zip(self._urls, answers, strict=True):
            for each in endpoints or ():
                host = urlsplit(each.url).hostname or ""
                name = by_address.get(host) or by_name.get(each.endpoint_id)
                if name is not None and not each.is_leaving:
                    found.append(
                        Place(url, each.endpoint_id, name, each.in_flight, each.is_drained)
                    )
        return found

    async def drain(self, places: Collection[Place]) -> None:
        """Nothing new goes there. What fails is logged: the deadline of the drain covers it."""
        await self._post(places, "drain")

    async def undrain(self, places: Collection[Place]) -> set[str]:
        """Take them back into use; the pods for which that failed."""
        return await self._post(places, "undrain")

    async def _endpoints(self, url: str) -> list[_Endpoint] | None:
        address = f"{url}/admin/endpoints"
        try:
            body = await fetch(self._client, address, headers=self._headers, timeout_s=TIMEOUT_S)
            return msgspec.json.decode(body, type=_Endpoints).endpoints
        except (Unavailable, msgspec.DecodeError) as error:
            log.warning("drain.router_unknown", router=url, error=str(error))
            return None

    async def _post(self, places: Collection[Place], verb: str) -> set[str]:
        done = await asyncio.gather(*(self._post_one(place, verb) for place in places))
        return {place.pod for place, is_done in zip(places, done, strict=True) if not is_done}

    async def _post_one(self, place: Place, verb: str) -> bool:
        endpoint = quote(place.endpoint_id, safe=":/")
        try:
            response = await self._client.post(
                f"{place.router}/admin/endpoints/{endpoint}/{verb}",
                headers=self._headers,
                timeout=TIMEOUT_S,
            )
            if response.status_code != httpx.codes.NOT_FOUND:  # it has left meanwhile
                response.raise_for_status()
        except httpx.HTTPError as error:
            log.warning("drain.not_told", verb=verb, router=place.router, pod=place.pod,
                        error=str(error) or repr(error))  # fmt: skip
            return False
        return True
