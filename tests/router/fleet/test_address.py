"""URLs of workers, and addresses of their events."""

from __future__ import annotations

import pytest

from shoal.errors import ConfigError
from shoal.router.fleet.address import parse_address, with_host


@pytest.mark.parametrize(
    ("url", "spelling"),
    [
        ("http://10.0.0.7:8000", "http://10.0.0.7:8000"),
        ("HTTP://Worker.Example:8000/", "http://worker.example:8000"),
        ("http://worker:80", "http://worker"),
        ("https://worker", "https://worker"),
        ("https://worker:8443/llm/", "https://worker:8443/llm"),
        ("http://[FD00::1]:8000", "http://[fd00::1]:8000"),
    ],
)
def test_one_place_has_one_spelling(url: str, spelling: str) -> None:
    assert parse_address(url).url == spelling


@pytest.mark.parametrize(
    "url",
    [
        "10.0.0.7:8000", "ftp://worker", "http://", "http://worker:port", "http://worker:70000",
        "http://user@worker", "http://worker?a=b", "http://worker/a b", "http://wörker/",
    ],
)  # fmt: skip
def test_what_is_no_worker_is_named(url: str) -> None:
    with pytest.raises(ConfigError):
        parse_address(url)


def test_a_password_in_a_url_stays_out_of_the_error() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_address("http://me:secret@worker:8000")
    assert "secret" not in str(caught.value)
    assert "worker" in str(caught.value)


@pytest.mark.parametrize(
    ("bound", "host", "reached"),
    [
        ("tcp://*:5557", "10.0.0.7", "tcp://10.0.0.7:5557"),
        ("tcp://0.0.0.0:5557", "worker", "tcp://worker:5557"),
        ("tcp://[::]:5557", "fd00::1", "tcp://[fd00::1]:5557"),
        ("tcp://10.0.0.9:5557", "10.0.0.7", "tcp://10.0.0.9:5557"),
        ("ipc:///run/events", "10.0.0.7", "ipc:///run/events"),
        ("tcp://nonsense", "10.0.0.7", "tcp://nonsense"),
    ],
)
def test_a_wildcard_means_the_workers_host(bound: str, host: str, reached: str) -> None:
    assert with_host(bound, host) == reached
