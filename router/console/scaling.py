"""Where the console reads what an autoscaler says.

It is read over HTTP: the admin API of another process, or the routes that `shoal up` has added to
this very app, which are then called without a socket.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
from starlette.types import ASGIApp

from .scaling_view import ScalingView, dicts, runs

TIMEOUT_S = 1.5
MAX_BODY_BYTES = 4 * 1024 * 1024
NUM_DECISIONS = 500
"""Asked for; those that change nothing are joined."""
MAX_RUNS = 30
FRESH_S = 2.0
"""So long one answer serves all who look."""
MAX_ADDRESSES = 8
RETRY_S = 5.0
"""After a failure it is not asked again for so long."""


class ScalingUnknown(Exception):
    """It cannot be had at the moment; the message is for people."""


class Scaling:
    """One autoscaler's admin API."""

    def __init__(
        self,
        url: str,
        client: httpx.AsyncClient,
        *,
        clock: Callable[[], float],
        key: str | None = None,
        name: str = "",
        addresses: Callable[[str], Awaitable[list[str]]] | None = None,
    ) -> None:
        """`key`: of its admin API. `name`: how to speak of it to people. `addresses`: URLs of the
        replicas behind the one URL; none: `every_address`."""
        self._url = self._at = url.rstrip("/")
        self._client = client
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._clock = clock
        self._name = name or f"The autoscaler at {self._url}"
        self._addresses = addresses or every_address
        self._lock = asyncio.Lock()
        self._known = ScalingView()
        self._known_at = float("-inf")

    async def view(self, model: str, since: float) -> ScalingView:
        """As of a second ago at most; the history is of `model`, or of the first one it scales.

        Never raises for an autoscaler in trouble: `error` says what is the matter.
        """
        async with self._lock:
            fresh_s = RETRY_S if self._known.error else FRESH_S
            if self._clock() - self._known_at >= fresh_s:
                self._known = await self._current()
                self._known_at = self._clock()
        known = self._known
        names = [str(found.get("model", "")) for found in known.models]
        shown = model if model in names else names[0] if names else ""
        if not shown:
            return known
        try:
            body = await self._get(
                self._at, "/autoscaler/history", {"model": shown, "since": f"{since:.3f}"}
            )
        except ScalingUnknown as error:
            return msgspec.structs.replace(known, error=str(error))
        return msgspec.structs.replace(known, history=dicts(body, "points"), history_of=shown)

    async def _current(self) -> ScalingView:
        """Of several replicas the one that scales: those that stand by have nothing to tell."""
        found = await self._ask(self._at)
        if found.models:
            return found
        addresses = await self._addresses(self._url)
        others = await asyncio.gather(*(self._ask(address) for address in addresses))
        for address, other in zip(addresses, others, strict=True):
            if other.models:
                self._at = address
                return other
        self._at = self._url
        return next((other for other in others if not other.error), found)

    async def _ask(self, url: str) -> ScalingView:
        try:
            models, decisions = await asyncio.gather(
                self._get(url, "/autoscaler/models", {}),
                self._get(url, "/autoscaler/decisions", {"limit": str(NUM_DECISIONS)}),
            )
        except ScalingUnknown as error:
            return ScalingView(error=str(error))
        return ScalingView(
            models=dicts(models, "models"), decisions=runs(dicts(decisions, "decisions"))[:MAX_RUNS]
        )

    async def _get(self, url: str, path: str, query: Mapping[str, str]) -> Any:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await self._client.get(url + path, params=query, headers=self._headers)
        except (httpx.HTTPError, TimeoutError) as error:
            kind = type(error).__name__
            raise ScalingUnknown(f"{self._name} does not answer ({kind}).") from error
        if answer.status_code != httpx.codes.OK or len(answer.content) > MAX_BODY_BYTES:
            raise ScalingUnknown(f"{self._name} answered {path} with {answer.status_code}.")
        try:
            return msgspec.json.decode(answer.content)
        except msgspec.DecodeError as error:
            raise ScalingUnknown(f"{self._name} answered {path} with no JSON.") from error


def scaling_of(app: ASGIApp, *, clock: Callable[[], float]) -> Scaling:
    """That of an app in this process which has the autoscaler's routes."""
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False))
    return Scaling(
        "http://autoscaler", client, clock=clock, name="The autoscaler", addresses=_alone
    )


async def _alone(_url: str) -> list[str]:
    return []


async def every_address(url: str) -> list[str]:
    """The same URL with each address of its name in the name's place: the pods of a Service.

    Empty for a name that cannot be resolved, and for https, whose certificates are for names.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        return []
    try:
        async with asyncio.timeout(TIMEOUT_S):
            found = await asyncio.get_running_loop().getaddrinfo(
                parts.hostname, parts.port or 80, type=socket.SOCK_STREAM
            )
    except (OSError, TimeoutError):
        return []
    hosts = dict.fromkeys(str(address[4][0]) for address in found)
    return [
        f"http://{f'[{host}]' if ':' in host else host}:{parts.port or 80}{parts.path}"
        for host in hosts
    ][:MAX_ADDRESSES]
