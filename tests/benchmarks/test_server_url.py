from __future__ import annotations

import pytest

from shoal.benchmarks.server_url import server_url
from shoal.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000"),
        (" https://host ", "https://host"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
        ("https://host/tenant/a/v1", "https://host/tenant/a"),
    ],
)
def test_addresses_as_people_write_them(text: str, expected: str) -> None:
    assert server_url(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("localhost:8000", "not an http"),
        ("ftp://host", "not an http"),
        ("http://", "not an http"),
        ("http://host:99999", "not a URL"),
        ("http://host:http", "not a URL"),
        ("http://[::1", "not a URL"),
        ("http://host/?tenant=a", "before the first"),
        ("http://host/#v1", "before the first"),
    ],
)
def test_what_is_no_address(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        server_url(text)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="--api-key") as caught:
        server_url("http://me:sesame@host")
    assert "sesame" not in str(caught.value)
