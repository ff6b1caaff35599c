"""The Kubernetes API server: requests with a deadline, their errors, and the fence before a write.

kubernetes_asyncio knows kubeconfigs, credentials and TLS. Its generated classes are left aside:
what is scaled may be of any kind, and msgspec reads the few fields we need of each.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shoal.errors import ClusterError, ConfigError

NOT_FOUND = 404
CONFLICT = 409
GONE = 410
REQUEST_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 4.0
"""Less than a lease outlives its renewal (`election.Timing`): a write that was begun in time has
ended before another can lead."""
FIELD_MANAGER = "shoal-autoscaler"
"""Our name in managedFields."""
JSON = "application/json"
METADATA_ONLY = f"{JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST_ONLY = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
MERGE_PATCH = "application/merge-patch+json"
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class _Status(msgspec.Struct):
    """What the API server answers when it does not do what was asked."""

    message: str = ""
    reason: str = ""


_statuses = msgspec.json.Decoder(_Status)


class Api:
    """One client of one API server. Use `connect`."""

    def __init__(self, client: Any, *, namespace: str) -> None:
        self._client = client
        self.namespace = namespace
        """Of our own pod, or of the kubeconfig's context."""
        self.may_write: Callable[[], bool] = lambda: True
        """Asked right before each write but those of `unfenced`."""

    async def get(
        self, path: str, query: Mapping[str, str] | None = None, *, accept: str = JSON
    ) -> bytes:
        """Raises ClusterError."""
        return await self._request(
            "GET", path, query=query, accept=accept, timeout_s=REQUEST_TIMEOUT_S
        )

    async def write(
        self, method: str, path: str, body: dict[str, Any], *, content_type: str = JSON,
        unfenced: bool = False,
    ) -> bytes:  # fmt: skip
        """POST, PUT or PATCH. Raises ClusterError, also when we no longer lead.

        `unfenced` is for the lease itself.
        """
        if not unfenced and not self.may_write():
            raise ClusterError(f"{method} {path} was not sent: another replica may lead by now")
        return await self._request(
            method, path, query={"fieldManager": FIELD_MANAGER}, body=body,
            content_type=content_type, timeout_s=WRITE_TIMEOUT_S,
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], *, silence_s: float, accept: str = JSON
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The pieces of an answer that goes on. Raises ClusterError; after `silence_s` too."""
        with _as_cluster_errors(f"watch of {path}"):
            response = await self._call(
                "GET", path, query=query, accept=accept, timeout=(REQUEST_TIMEOUT_S, silence_s)
            )
            async with response:
                if response.status != 200:
                    raise _refusal("GET", path, response.status, await response.read())
                yield response.content.iter_any()

    async def _request(
        self, method: str, path: str, *, timeout_s: float, query: Mapping[str, str] | None = None,
        body: dict[str, Any] | None = None, content_type: str = JSON, accept: str = JSON,
    ) -> bytes:  # fmt: skip
        with _as_cluster_errors(f"{method} {path}"):
            response = await self._call(
                method, path, query=query, body=body, content_type=content_type, accept=accept,
                timeout=timeout_s,
            )  # fmt: skip
            async with response:
                answer: bytes = await response.read()
        if not 200 <= response.status < 300:
            raise _refusal(method, path, response.status, answer)
        return answer

    async def _call(
        self, method: str, path: str, *, timeout: Any, query: Mapping[str, str] | None = None,
        body: dict[str, Any] | None = None, content_type: str = JSON, accept: str = JSON,
    ) -> Any:  # fmt: skip
        return await self._client.call_api(
            path,
            method,
            query_params=list(query.items()) if query else [],
            header_params={"Accept": accept, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],  # asked anew each time: tokens expire
            _preload_content=False,
            _request_timeout=timeout,
        )


@contextlib.asynccontextmanager
async def connect(kubeconfig: str | None) -> AsyncIterator[Api]:
    """A client with the kubeconfig's credentials, or those of the pod we run in.

    Raises ConfigError.
    """
    if importlib.util.find_spec("kubernetes_asyncio") is None:
        raise ConfigError(
            "Kubernetes needs a library that is missing: pip install 'shoal[kubernetes]'"
        )
    # A second of imports, thousands of generated classes: not on the loop.
    client_module = await asyncio.to_thread(importlib.import_module, "kubernetes_asyncio.client")
    configuration, namespace = await _configuration(client_module, kubeconfig)
    # Each watch holds a connection; their number is bounded by that of the policies.
    configuration.connection_pool_maxsize = 0
    async with client_module.ApiClient(configuration) as client:
        client.user_agent = FIELD_MANAGER
        yield Api(client, namespace=namespace)


async def _configuration(client_module: Any, kubeconfig: str | None) -> tuple[Any, str]:
    config: Any = importlib.import_module("kubernetes_asyncio.config")
    configuration = client_module.Configuration()
    try:
        if kubeconfig is None:
            config.load_incluster_config(client_configuration=configuration)
            namespace = await asyncio.to_thread(_NAMESPACE.read_text, encoding="ascii")
            return configuration, namespace.strip()
        await config.load_kube_config(
            config_file=kubeconfig, client_configuration=configuration, persist_config=False
        )
        _, active = config.list_kube_config_contexts(kubeconfig)
        context = active["context"] if active is not None else {}
        return configuration, context.get("namespace") or "default"
    except (config.ConfigException, OSError) as error:
        raise ConfigError(
            f"no access to Kubernetes: {error}; outside of a cluster name a kubeconfig:"
            " --kubeconfig FILE"
        ) from None


@contextlib.contextmanager
def _as_cluster_errors(what: str) -> Iterator[None]:
    import aiohttp

    try:
        yield
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        raise ClusterError(f"{what}: {str(error) or type(error).__name__}") from error


def _refusal(method: str, path: str, status: int, body: bytes) -> ClusterError:
    try:
        message = _statuses.decode(body).message
    except msgspec.DecodeError:
        message = ""
    hint = "; see the rights in docs/kubernetes.md" if status in (401, 403) else ""
    return ClusterError(
        f"{method} {path}: the API server answered {status}: {message or 'no reason'}{hint}",
        status=status,
    )
