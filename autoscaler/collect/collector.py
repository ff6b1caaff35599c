"""The `Collector` over HTTP: the routers' admin API, and the metrics page of each worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import httpx
import msgspec

from ..core.observation import Observation, VariantObservation
from ..policy import ScalingPolicy
from ..target import Replicas, observed
from .demand import DemandReader
from .fetch import Params, Unavailable, fetch
from .router_page import FAMILIES, Endpoint, RouterPage, read_endpoints, read_router
from .troubles import Troubles
from .variant import Worker, Workers, as_routers_saw, labels_match, observe, tokens_of
from .worker_page import read_worker

TIMEOUT_S = 2.0
"""Of each request."""
MAX_CONCURRENT = 32
"""Requests at once. More are slower: the client looks at all its connections for each of them."""
_LEAST_INTERVAL_S = 1e-3


class HttpCollector:
    """Of one model. Also what a target needs that counts endpoints (`endpoints`)."""

    def __init__(
        self,
        policy: ScalingPolicy,
        client: httpx.AsyncClient,
        *,
        router_urls: Sequence[str],
        router_key: str | None = None,
        endpoint_labels: Mapping[str, Mapping[str, str]] | None = None,
        timeout_s: float = TIMEOUT_S,
        on_error: Callable[[], None] = lambda: None,
    ) -> None:
        """`endpoint_labels` by variant: those of the router's endpoints that belong to it.

        `on_error` is called for each answer that did not come, or made no sense.
        """
        self._policy = policy
        self._client = client
        self._routers = tuple(url.rstrip("/") for url in router_urls)
        self._headers = {} if router_key is None else {"authorization": f"Bearer {router_key}"}
        self._labels = endpoint_labels or {}
        self._timeout_s = timeout_s
        self._demand = DemandReader(policy.spec.slo.ttft_s)
        self._workers = Workers()
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._known_endpoints: list[Endpoint] = []
        self._last: float | None = None
        self._troubles = Troubles(policy.model, on_error)

    async def observe(self, replicas: Mapping[str, Replicas], now: float) -> Observation:
        """Since the last call. Never raises for a source in trouble."""
        interval_s = self._policy.interval_s if self._last is None else now - self._last
        interval_s = max(interval_s, _LEAST_INTERVAL_S)
        self._last = now
        pages, endpoints = await asyncio.gather(self._router_pages(), self._serving_endpoints())
        demand = self._demand.read(now, interval_s, pages)
        workers = await self._read_workers(now, endpoints)
        self._troubles.end_look()
        output_tokens, mean_input = tokens_of([w for _, w in workers], interval_s)
        variants = as_routers_saw(
            [self._variant(observed(name, found), endpoints, workers)
             for name, found in replicas.items()],
            num_streams=demand.num_streams, num_streams_in_time=demand.num_streams_in_time,
        )  # fmt: skip
        arrivals, input_tokens = demand.arrivals, None
        if arrivals is not None and mean_input is not None:
            input_tokens = round(arrivals * mean_input)
        return Observation(
            interval_s=interval_s,
            arrivals=arrivals,
            input_tokens=input_tokens,
            output_tokens=output_tokens if workers or not endpoints else None,
            queued=demand.queued,
            held=demand.held,
            variants=tuple(variants),
        )

    async def endpoints(self, variant: str) -> list[Endpoint] | None:
        """Of a variant, as the routers list them now; None: none of them answers."""
        found = await self._listed()
        labels = self._labels.get(variant, {})
        return None if found is None else [e for e in found if labels_match(labels, e.labels)]

    async def held(self, wait_s: float) -> int:
        """As soon as a router holds a request for the model, else 0 after `wait_s`."""
        asking = [asyncio.create_task(self._held_at(url, wait_s)) for url in self._routers]
        try:
            for answer in asyncio.as_completed(asking):
                if num_held := await answer:
                    return num_held
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        return 0

    async def _held_at(self, router: str, wait_s: float) -> int:
        url = f"{router}/admin/held"
        wait_s = max(min(wait_s, 60.0), 0.0)
        params = {"model": self._policy.model, "wait_s": f"{wait_s:.3f}"}
        try:
            body = await fetch(
                self._client, url, params=params, headers=self._headers,
                timeout_s=wait_s + self._timeout_s,
            )  # fmt: skip
            num_held = msgspec.json.decode(body, type=_Held).held.get(self._policy.model, 0)
        except (Unavailable, msgspec.MsgspecError) as error:
            self._troubles.note(url, error)
            return 0
        return num_held

    async def _router_pages(self) -> dict[str, RouterPage | None]:
        found = await asyncio.gather(*map(self._router_page, self._routers))
        return dict(zip(self._routers, found, strict=True))

    async def _router_page(self, router: str) -> RouterPage | None:
        url = f"{router}/metrics"
        body = await self._get(url, headers=self._headers, params={"name[]": FAMILIES})
        if body is None:
            return None
        page = read_router(body, self._policy.model)
        if page is None:
            self._troubles.note(url, Unavailable(f"{url} is not the page of a router"))
        return page

    async def _serving_endpoints(self) -> list[Endpoint]:
        """Those that serve the model, each once: all routers list all of them.

        While no router answers they are those of before.
        """
        listed = await self._listed()
        if listed is not None:
            self._known_endpoints = listed
            self._workers.keep({endpoint.url for endpoint in listed})
        return self._known_endpoints

    async def _listed(self) -> list[Endpoint] | None:
        found = await asyncio.gather(*map(self._endpoints_of, self._routers))
        if all(endpoints is None for endpoints in found):
            return None
        by_url = {endpoint.url: endpoint for each in found for endpoint in each or ()}
        return [e for e in by_url.values() if e.serves(self._policy.model)]

    async def _endpoints_of(self, router: str) -> list[Endpoint] | None:
        url = f"{router}/admin/endpoints"
        body = await self._get(url, headers=self._headers)
        if body is None:
            return None
        try:
            endpoints = read_endpoints(body)
        except msgspec.MsgspecError as error:
            self._troubles.note(url, error)
            return None
        return endpoints

    async def _read_workers(
        self, now: float, endpoints: Sequence[Endpoint]
    ) -> list[tuple[Endpoint, Worker]]:
        """Those that answered, and not for the first time."""
        bodies = await asyncio.gather(*(self._get(f"{e.url}/metrics") for e in endpoints))
        workers = []
        for endpoint, body in zip(endpoints, bodies, strict=True):
            if body is None:
                continue
            url = f"{endpoint.url}/metrics"
            page = read_worker(body)
            if page is None:
                self._troubles.note(url, Unavailable(f"{url} is not the page of a worker"))
                continue
            worker = self._workers.read(now, endpoint.url, page, is_ready=endpoint.is_ready)
            if worker is not None:
                workers.append((endpoint, worker))
        return workers

    def _variant(
        self,
        seen: VariantObservation,
        endpoints: Sequence[Endpoint],
        workers: Sequence[tuple[Endpoint, Worker]],
    ) -> VariantObservation:
        labels = self._labels.get(seen.name, {})
        return observe(
            seen,
            [worker for e, worker in workers if labels_match(labels, e.labels)],
            num_endpoints=sum(e.is_ready and labels_match(labels, e.labels) for e in endpoints),
            ttft_s=self._policy.spec.slo.ttft_s,
        )

    async def _get(
        self, url: str, *, headers: Mapping[str, str] | None = None, params: Params | None = None
    ) -> bytes | None:
        """None: it is not to be had; said once."""
        try:
            async with asyncio.timeout(2 * self._timeout_s), self._slots:
                return await fetch(
                    self._client, url, headers=headers, params=params, timeout_s=self._timeout_s
                )
        except TimeoutError:
            self._troubles.note(url, Unavailable(f"{url}: its turn did not come in time"))
        except Unavailable as error:
            self._troubles.note(url, error)
        return None


class _Held(msgspec.Struct):
    held: dict[str, int]
