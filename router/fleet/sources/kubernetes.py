"""Endpoints of a Kubernetes cluster: EndpointSlices, listed once and watched from there on.

The API's own protocol: a list has a resource version, a watch from that version tells every change;
when the version is too old (410 Gone) the list is made again. Whatever fails, the last list stays.
Needs the extra `kubernetes`; what it may do in the cluster: docs/discovery.md.
"""

from __future__ import annotations

import asyncio
import importlib.util
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import structlog

from shoal.errors import ConfigError

from ...settings.discovery import KubernetesSource
from ..roster import Found
from .endpoint_slices import EndpointSlice, EndpointSliceList, endpoints_of
from .source import Publish

WATCH_S = 60
"""The server ends a watch after so long, and we begin another: no dead connection lives longer."""
READ_TIMEOUT_S = 75.0
LIST_TIMEOUT_S = 30.0
FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 30.0
STEADY_S = 30.0
"""What went well for so long was well: the next trouble is a new one."""
MAX_LINE_BYTES = 16 * 1024 * 1024
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

log = structlog.get_logger(__name__)


class _WatchEvent(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""


class _TooOld(Exception):
    """410 Gone: list again."""


class _ApiError(Exception):
    """An answer that is no list and no watch."""


_lists = msgspec.json.Decoder(EndpointSliceList)
_slices = msgspec.json.Decoder(EndpointSlice)
_events = msgspec.json.Decoder(_WatchEvent)
_statuses = msgspec.json.Decoder(_Status)


class EndpointSlices:
    """Follows the slices that one selector finds."""

    def __init__(self, settings: KubernetesSource) -> None:
        """Raises ConfigError when the client library is not installed."""
        if importlib.util.find_spec("kubernetes_asyncio") is None:
            raise ConfigError(
                "discovery.kubernetes needs a library that is not installed:"
                " pip install 'shoal[kubernetes]'"
            )
        self.name = f"kubernetes {settings.namespace or ''}/{settings.selector}"
        self._settings = settings
        self._slices: dict[str, EndpointSlice] = {}
        self._told: tuple[Found, ...] | None = None
        self._warned_ports: set[str] = set()

    async def run(self, publish: Publish) -> None:
        import aiohttp

        backoff_s = FIRST_BACKOFF_S
        warned = ""
        while True:
            started = asyncio.get_running_loop().time()
            try:
                await self._session(publish)
            except _TooOld:
                reason = "the version we watched from is gone"
            except (OSError, TimeoutError, aiohttp.ClientError, _ApiError, ConfigError) as error:
                reason = str(error) or type(error).__name__
            except msgspec.DecodeError as error:
                reason = f"an answer that is not the API's: {error}"
            else:
                reason = "the watch ended"
            if asyncio.get_running_loop().time() - started > STEADY_S:
                backoff_s, warned = FIRST_BACKOFF_S, ""
            if reason != warned:
                warned = reason
                log.warning("discovery.kubernetes_again", selector=self._settings.selector,
                            reason=reason, kept="the old list")  # fmt: skip
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(MAX_BACKOFF_S, 2 * backoff_s)

    async def _session(self, publish: Publish) -> None:
        """One list and the watches after it, with one client: new credentials each time."""
        # A second of imports, thousands of generated classes: not on the loop.
        client_module = await asyncio.to_thread(
            importlib.import_module, "kubernetes_asyncio.client"
        )
        configuration, namespace = await self._configuration(client_module)
        async with client_module.ApiClient(configuration) as client:
            api = client_module.DiscoveryV1Api(client)
            version = await self._list(api, namespace)
            self._publish(publish)
            while True:
                seen, version = version, await self._watch(api, namespace, version, publish)
                if version == seen:
                    # It ended without a word. Most often its time was over; if not, do not hurry.
                    await asyncio.sleep(random.uniform(0.1, 0.5))

    async def _configuration(self, client_module: Any) -> tuple[Any, str]:
        """Where the API server is, who we are there, and the namespace. Raises ConfigError."""
        config: Any = importlib.import_module("kubernetes_asyncio.config")

        settings = self._settings
        configuration = client_module.Configuration()
        namespace = settings.namespace
        try:
            if settings.kubeconfig is not None:
                await config.load_kube_config(
                    config_file=settings.kubeconfig,
                    client_configuration=configuration,
                    persist_config=False,
                )
                if namespace is None:
                    _, active = config.list_kube_config_contexts(settings.kubeconfig)
                    context = active["context"] if active is not None else {}
                    namespace = context.get("namespace") or "default"
            else:
                config.load_incluster_config(client_configuration=configuration)
                if namespace is None:
                    namespace = await asyncio.to_thread(_own_namespace)
        except config.ConfigException as error:
            raise ConfigError(f"no access to Kubernetes: {error}") from None
        return configuration, namespace

    async def _list(self, api: Any, namespace: str) -> str:
        """All slices now; returns their version."""
        response = await api.list_namespaced_endpoint_slice(
            namespace,
            label_selector=self._settings.selector,
            _preload_content=False,
            _request_timeout=LIST_TIMEOUT_S,
        )
        async with response:
            body = await response.read()
            _check(response.status, body)
        listed = _lists.decode(body)
        self._slices = {slice_.metadata.name: slice_ for slice_ in listed.items}
        return listed.metadata.resource_version

    async def _watch(self, api: Any, namespace: str, version: str, publish: Publish) -> str:
        """Take in and publish changes until it ends; returns the version then. Raises _TooOld."""
        response = await api.list_namespaced_endpoint_slice(
            namespace,
            label_selector=self._settings.selector,
            watch=True,
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=WATCH_S,
            _preload_content=False,
            _request_timeout=(LIST_TIMEOUT_S, READ_TIMEOUT_S),
        )
        async with response:
            if response.status != 200:
                _check(response.status, await response.read())
            async for line in _lines(response.content):
                event = _events.decode(line)
                if event.type == "ERROR":
                    status = _statuses.decode(event.object)
                    _check(status.code or 500, bytes(event.object))
                slice_ = _slices.decode(event.object)
                if event.type in ("ADDED", "MODIFIED"):
                    self._slices[slice_.metadata.name] = slice_
                elif event.type == "DELETED":
                    self._slices.pop(slice_.metadata.name, None)
                version = slice_.metadata.resource_version or version
                self._publish(publish)
        return version

    def _publish(self, publish: Publish) -> None:
        listed, without_port = endpoints_of(self._slices.values(), self._settings.port)
        for name in without_port:
            if name not in self._warned_ports:
                log.warning("discovery.kubernetes_port", slice=name, wanted=self._settings.port,
                            reason="name one of its ports in `port`")  # fmt: skip
        self._warned_ports = set(without_port)
        if listed != self._told:
            self._told = listed
            publish(listed)


def _own_namespace() -> str:
    """Of the pod we run in."""
    try:
        return _NAMESPACE.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigError(f"cannot tell our own namespace: {error}; name one") from None


def _check(status: int, body: bytes) -> None:
    """Raises what an answer other than 200 means."""
    if status == 200:
        return
    if status == 410:
        raise _TooOld
    try:
        message = _statuses.decode(body).message
    except msgspec.DecodeError:
        message = ""
    hint = "; see the Role in docs/discovery.md" if status in (401, 403) else ""
    raise _ApiError(f"the API server answered {status}: {message or 'no reason'}{hint}")


async def _lines(content: Any) -> AsyncIterator[bytes]:
    """Lines of a watch; a slice may be longer than the limit of a stream's own readline."""
    rest = b""
    async for piece in content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line:
                yield line
        if len(rest) > MAX_LINE_BYTES:
            raise _ApiError(f"a watch event of more than {MAX_LINE_BYTES} bytes")
