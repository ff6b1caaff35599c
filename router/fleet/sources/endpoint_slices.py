"""EndpointSlices (discovery.k8s.io/v1) as JSON, and the endpoints they stand for. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ...settings.discovery import StaticEndpoint
from ..address import Address
from ..roster import Found


class Conditions(msgspec.Struct):
    """What is not said counts as ready (the API's own rule)."""

    ready: bool | None = None
    terminating: bool | None = None


class TargetRef(msgspec.Struct):
    kind: str = ""
    name: str = ""


class SliceEndpoint(msgspec.Struct, rename="camel"):
    addresses: list[str] = []
    conditions: Conditions = msgspec.field(default_factory=Conditions)
    target_ref: TargetRef | None = None
    zone: str | None = None


class SlicePort(msgspec.Struct, rename="camel"):
    name: str | None = None
    port: int | None = None
    app_protocol: str | None = None


class Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None


class EndpointSlice(msgspec.Struct):
    """The part of one that a router reads."""

    metadata: Metadata = msgspec.field(default_factory=Metadata)
    endpoints: list[SliceEndpoint] | None = None
    ports: list[SlicePort] | None = None


class ListMetadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class EndpointSliceList(msgspec.Struct):
    metadata: ListMetadata
    items: list[EndpointSlice] = []


def endpoints_of(
    slices: Iterable[EndpointSlice], port: str | int | None
) -> tuple[tuple[Found, ...], tuple[str, ...]]:
    """The endpoints of all slices, and the names of slices whose port could not be told.

    Ready addresses are candidates; terminating ones are listed so that they drain; the others are
    not there. An address in two slices (it moves from one to another) counts once, by its better
    condition.
    """
    by_url: dict[str, Found] = {}
    without_port = []
    for slice_ in sorted(slices, key=lambda slice_: slice_.metadata.name):
        chosen = _choose(slice_.ports or [], port)
        if chosen is None or chosen.port is None:
            if slice_.endpoints:
                without_port.append(slice_.metadata.name)
            continue
        is_tls = (chosen.app_protocol or "").lower() in ("https", "kubernetes.io/https")
        scheme = "https" if is_tls else "http"
        for endpoint in slice_.endpoints or []:
            is_terminating = bool(endpoint.conditions.terminating)
            if not is_terminating and endpoint.conditions.ready is False:
                continue
            for host in endpoint.addresses[:1]:  # the API: consumers take the first
                address = Address(scheme, host.lower(), chosen.port, "")
                found = Found(
                    StaticEndpoint(
                        url=address.url,
                        name=_pod(endpoint),
                        labels=_labels(slice_, endpoint),
                    ),
                    is_terminating,
                )
                before = by_url.get(address.url)
                if before is None or (before.is_terminating and not is_terminating):
                    by_url[address.url] = found
    return tuple(by_url.values()), tuple(without_port)


def _choose(ports: list[SlicePort], wanted: str | int | None) -> SlicePort | None:
    if wanted is None:
        return ports[0] if len(ports) == 1 else None
    for port in ports:
        if wanted in (port.name, port.port):
            return port
    return None


def _pod(endpoint: SliceEndpoint) -> str | None:
    reference = endpoint.target_ref
    return reference.name or None if reference is not None and reference.kind == "Pod" else None


def _labels(slice_: EndpointSlice, endpoint: SliceEndpoint) -> dict[str, str]:
    """Labels of the Service, which its slices carry, without Kubernetes' own; and the zone."""
    labels = {
        key: value
        for key, value in (slice_.metadata.labels or {}).items()
        if "kubernetes.io/" not in key and "k8s.io/" not in key
    }
    if endpoint.zone:
        labels["zone"] = endpoint.zone
    return labels
