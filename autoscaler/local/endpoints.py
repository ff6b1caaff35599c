"""The router's list of endpoints, over its admin API: workers are added, drained, taken out."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from shoal.errors import ShoalError

_T = TypeVar("_T")
_TIMEOUT_S = 5.0


class EndpointsUnavailable(ShoalError):
    """The router did not answer, or not as expected."""


class Endpoints(Protocol):
    """Where workers are made known."""

    async def add(self, url: str, name: str) -> str:
        """Requests go there from now on, also if it was being removed; returns its id. Raises
        EndpointsUnavailable."""

    async def remove(self, endpoint_id: str) -> None:
        """Nothing new goes there; gone once it is idle. One that is gone already is no error.
        Raises EndpointsUnavailable."""

    async def listed(self) -> dict[str, str]:
        """The status of each endpoint that there is, by its id. Raises EndpointsUnavailable."""


class _Added(msgspec.Struct):
    endpoint_id: str


class _Listed(msgspec.Struct):
    endpoint_id: str
    status: str


class _Listing(msgspec.Struct):
    endpoints: list[_Listed]


class RouterEndpoints:
    """Of a router. `async with` closes its connections."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`key` of the admin API, if it has any."""
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={} if key is None else {"authorization": f"Bearer {key}"},
            timeout=_TIMEOUT_S,
            transport=transport,
            trust_env=False,  # a proxy does not lead to this machine
            verify=False,  # there is no TLS, and loading certificates takes 50 ms
        )

    async def __aenter__(self) -> RouterEndpoints:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def add(self, url: str, name: str) -> str:
        body = {"url": url, "name": name, "engine": "shoal"}
        answer = await self._ask("POST", "/admin/endpoints", json=body)
        return self._decode(answer, _Added).endpoint_id

    async def remove(self, endpoint_id: str) -> None:
        path = f"/admin/endpoints/{quote(endpoint_id, safe='')}"
        await self._ask("DELETE", path, fine=(404,))

    async def listed(self) -> dict[str, str]:
        listing = self._decode(await self._ask("GET", "/admin/endpoints"), _Listing)
        return {listed.endpoint_id: listed.status for listed in listing.endpoints}

    async def _ask(
        self, method: str, path: str, *, fine: tuple[int, ...] = (), **arguments: object
    ) -> httpx.Response:
        try:
            answer = await self._client.request(method, path, **arguments)  # type: ignore[arg-type]
        except httpx.HTTPError as error:
            raise EndpointsUnavailable(f"{method} {path}: {error!r}") from error
        if answer.status_code >= 400 and answer.status_code not in fine:
            raise EndpointsUnavailable(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer

    def _decode(self, answer: httpx.Response, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.MsgspecError as error:
            raise EndpointsUnavailable(f"{answer.url.path}: {error}") from error
