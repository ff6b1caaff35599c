"""Endpoints behind a name."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from shoal.router.fleet.sources.dns import DNSNames
from shoal.router.settings.discovery import DNSSource
from tests.router.fleet.builders import until


class Resolver:
    """In place of the system's; a list of hosts, or an error."""

    def __init__(self) -> None:
        self.hosts: list[str] | None = []
        self.num_calls = 0

    def __call__(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        self.num_calls += 1
        if self.hosts is None:
            raise socket.gaierror(-2, "Name or service not known")
        stream = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [
            (socket.AF_INET6, *stream, (host, port, 0, 0))
            if ":" in host
            else (socket.AF_INET, *stream, (host, port))
            for host in self.hosts
        ]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    return made


@contextlib.asynccontextmanager
async def looking_up(**fields: Any) -> AsyncIterator[list[list[str]]]:
    lists: list[list[str]] = []
    source = DNSNames(DNSSource(name="workers", interval_s=0.005, **fields))
    task = asyncio.create_task(
        source.run(lambda listed: lists.append([found.endpoint.url for found in listed]))
    )
    try:
        yield lists
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_every_address_is_an_endpoint(resolver: Resolver) -> None:
    resolver.hosts = ["10.0.0.8", "fd00::1", "10.0.0.7", "10.0.0.7"]
    async with looking_up(port=9000) as lists:
        await until(lambda: lists)
    assert lists == [["http://10.0.0.7:9000", "http://10.0.0.8:9000", "http://[fd00::1]:9000"]]


async def test_only_changes_are_told(resolver: Resolver) -> None:
    resolver.hosts = ["10.0.0.7"]
    async with looking_up(scheme="https") as lists:
        await until(lambda: resolver.num_calls > 3)
        assert lists == [["https://10.0.0.7:8000"]]
        resolver.hosts = ["10.0.0.8"]
        await until(lambda: len(lists) == 2)
        assert lists[-1] == ["https://10.0.0.8:8000"]


async def test_a_failure_keeps_the_old_list_and_is_told_once(resolver: Resolver) -> None:
    resolver.hosts = ["10.0.0.7"]
    with capture_logs() as logs:
        async with looking_up() as lists:
            await until(lambda: lists)
            resolver.hosts = None
            calls = resolver.num_calls
            await until(lambda: resolver.num_calls > calls + 3)
            assert len(lists) == 1
            resolver.hosts = ["10.0.0.8"]
            await until(lambda: len(lists) == 2)
    assert [entry["event"] for entry in logs] == ["discovery.dns_failed"]
