"""EndpointSlices to endpoints."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shoal.router.fleet.sources.endpoint_slices import EndpointSlice, endpoints_of

from .fake_api import endpoint, slice_


def decoded(*slices: dict[str, Any]) -> list[EndpointSlice]:
    return [msgspec.convert(made, EndpointSlice) for made in slices]


def urls(*slices: dict[str, Any], port: str | int | None = None) -> dict[str, bool]:
    """Whether each is terminating."""
    found, _ = endpoints_of(decoded(*slices), port)
    return {one.endpoint.url: one.is_terminating for one in found}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"ready": True}, {"http://10.0.0.1:8000": False}),
        ({}, {"http://10.0.0.1:8000": False}),
        ({"ready": None}, {"http://10.0.0.1:8000": False}),
        ({"ready": False}, {}),
        ({"ready": False, "serving": True, "terminating": True}, {"http://10.0.0.1:8000": True}),
        ({"ready": True, "terminating": True}, {"http://10.0.0.1:8000": True}),
    ],
)
def test_conditions(conditions: dict[str, Any], expected: dict[str, bool]) -> None:
    made = slice_("s", {"addresses": ["10.0.0.1"], "conditions": conditions})
    assert urls(made) == expected


PORTS = [{"name": "metrics", "port": 9090}, {"name": "http", "port": 8000}]


@pytest.mark.parametrize(
    ("ports", "wanted", "url"),
    [
        ([{"port": 8000}], None, "http://10.0.0.1:8000"),
        (PORTS, "http", "http://10.0.0.1:8000"),
        (PORTS, 9090, "http://10.0.0.1:9090"),
        ([{"name": "api", "port": 8443, "appProtocol": "https"}], None, "https://10.0.0.1:8443"),
    ],
)
def test_ports(ports: list[dict[str, Any]], wanted: str | int | None, url: str) -> None:
    assert list(urls(slice_("s", endpoint("10.0.0.1"), ports=ports), port=wanted)) == [url]


@pytest.mark.parametrize(
    ("ports", "wanted"), [(PORTS, None), (PORTS, "grpc"), ([], None), ([{"name": "http"}], "http")]
)
def test_a_port_that_cannot_be_told_is_told_of(
    ports: list[dict[str, Any]], wanted: str | None
) -> None:
    found, without = endpoints_of(decoded(slice_("s", endpoint("10.0.0.1"), ports=ports)), wanted)
    assert (found, without) == ((), ("s",))


def test_names_zones_and_the_services_labels() -> None:
    made = slice_(
        "s",
        endpoint("10.0.0.1", pod="llama-0", zone="a"),
        labels={"version": "canary", "kubernetes.io/service-name": "llama",
                "endpointslice.kubernetes.io/managed-by": "x"},
    )  # fmt: skip
    (found,), _ = endpoints_of(decoded(made), None)
    assert found.endpoint.name == "llama-0"
    assert found.endpoint.labels == {"version": "canary", "zone": "a"}


def test_an_address_that_moves_between_slices_counts_once() -> None:
    leaving = {"addresses": ["10.0.0.1"], "conditions": {"terminating": True}}
    for slices in (
        (slice_("a", leaving), slice_("b", endpoint("10.0.0.1"))),
        (slice_("a", endpoint("10.0.0.1")), slice_("b", leaving)),
    ):
        assert urls(*slices) == {"http://10.0.0.1:8000": False}


def test_ipv6() -> None:
    assert list(urls(slice_("s", endpoint("FD00::1")))) == ["http://[fd00::1]:8000"]


def test_empty_slices() -> None:
    assert endpoints_of(decoded({"metadata": {"name": "s"}}, slice_("t", ports=[])), None) == (
        (),
        (),
    )
