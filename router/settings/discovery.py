"""Where endpoints come from. Several sources may be named; their endpoints are one fleet."""

from __future__ import annotations

from typing import Literal

import msgspec

EngineName = Literal["auto", "shoal", "vllm", "sglang", "openai"]


class StaticEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One worker, by its address."""

    url: str
    name: str | None = None
    models: tuple[str, ...] = ()
    """None: asked at /v1/models, and asked again."""
    engine: EngineName = "auto"
    weight: float = 1.0
    cost_per_hour: float = 0.0
    labels: dict[str, str] = {}
    kv_events: str | None = None
    """ZeroMQ address of its KV events; none: asked at the worker (Shoal), or off."""
    kv_events_replay: str | None = None


class DNSSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every A and AAAA record of a name: a headless Service, for example."""

    name: str
    port: int = 8000
    scheme: Literal["http", "https"] = "http"
    interval_s: float = 5.0
    labels: dict[str, str] = {}


class KubernetesSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Ready addresses of the EndpointSlices that a label selector finds."""

    selector: str
    """For example "kubernetes.io/service-name=llama"."""
    namespace: str | None = None
    """None: that of the router's own pod."""
    port: str | int | None = None
    """Name or number; none: the only one."""
    kubeconfig: str | None = None
    """None: the pod's service account."""


class DiscoveryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All sources."""

    static: tuple[StaticEndpoint, ...] = ()
    file: str | None = None
    """YAML list like `static`, watched."""
    dns: tuple[DNSSource, ...] = ()
    kubernetes: tuple[KubernetesSource, ...] = ()
