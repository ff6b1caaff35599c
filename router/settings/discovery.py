"""Where endpoints come from. Several sources may be named; their endpoints are one fleet."""

from __future__ import annotations

from typing import Literal

import msgspec

from shoal.settings.ranges import HttpUrl, Money, Port, PositiveWeight, Seconds, Text

EngineName = Literal["auto", "shoal", "vllm", "sglang", "openai"]


class StaticEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One worker, by its address."""

    url: HttpUrl
    name: Text | None = None
    models: tuple[str, ...] = ()
    """None: asked at /v1/models, and asked again."""
    engine: EngineName = "auto"
    weight: PositiveWeight = 1.0
    cost_per_hour: Money = 0.0
    labels: dict[str, str] = {}
    kv_events: Text | None = None
    """ZeroMQ address of its KV events; none: asked at the worker (Shoal), or off."""
    kv_events_replay: Text | None = None


class DNSSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every A and AAAA record of a name: a headless Service, for example."""

    name: Text
    port: Port = 8000
    scheme: Literal["http", "https"] = "http"
    interval_s: Seconds = 5.0
    labels: dict[str, str] = {}


class KubernetesSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Ready addresses of the EndpointSlices that a label selector finds."""

    selector: Text
    """For example "kubernetes.io/service-name=llama"."""
    namespace: Text | None = None
    """None: that of the router's own pod."""
    port: Text | Port | None = None
    """Name or number; none: the only one."""
    kubeconfig: Text | None = None
    """None: the pod's service account."""


class DiscoveryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All sources."""

    static: tuple[StaticEndpoint, ...] = ()
    file: Text | None = None
    """YAML list like `static`, watched."""
    dns: tuple[DNSSource, ...] = ()
    kubernetes: tuple[KubernetesSource, ...] = ()
