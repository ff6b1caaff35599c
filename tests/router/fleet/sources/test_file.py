"""Endpoints in a file."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shoal.errors import ConfigError
from shoal.router.fleet.roster import Found
from shoal.router.fleet.sources.file import FileSource, read_endpoints
from tests.router.fleet.builders import until

GOOD = """
- url: http://10.0.0.7:8000
- url: http://10.0.0.8:8000/
  name: second
  labels: {zone: b}
"""


def urls(listed: Sequence[Found]) -> list[str]:
    return [found.endpoint.url for found in listed]


@contextlib.asynccontextmanager
async def watching(path: Path) -> AsyncIterator[list[list[str]]]:
    """All lists that were published."""
    lists: list[list[str]] = []
    source = FileSource(str(path), poll_s=0.005)
    task = asyncio.create_task(source.run(lambda listed: lists.append(urls(listed))))
    try:
        yield lists
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def replace(path: Path, text: str) -> None:
    """As careful writers do."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_what_a_file_says(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text(GOOD)
    first, second = read_endpoints(path)
    assert first.endpoint.url == "http://10.0.0.7:8000"
    assert (second.endpoint.url, second.endpoint.name) == ("http://10.0.0.8:8000", "second")
    assert second.endpoint.labels == {"zone": "b"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "write \\[\\]"),
        ("- url: [", "not YAML"),
        ("url: http://a", "array"),
        ("- url: http://a\n  wheight: 2", "wheight"),
        ("- url: http://a\n  weight: heavy", "weight"),
        ("- name: a", "url"),
        ("- url: http://a\n- url: http://b:port", "endpoint 2"),
        ("- !!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason) as caught:
        read_endpoints(path)
    assert str(path) in str(caught.value)


async def test_changes_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text("- url: http://a")
    async with watching(path) as lists:
        await until(lambda: lists == [["http://a"]])
        replace(path, "- url: http://b")
        await until(lambda: lists[-1] == ["http://b"])
        replace(path, "[]")
        await until(lambda: lists[-1] == [])


async def test_a_broken_file_keeps_the_old_list_and_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text("- url: http://a")
    with capture_logs() as logs:
        async with watching(path) as lists:
            await until(lambda: lists)
            replace(path, "- url: [")
            await until(lambda: logs)
            await asyncio.sleep(0.05)  # several looks at the same broken file
            assert lists == [["http://a"]]
            replace(path, "- url: http://b")
            await until(lambda: lists[-1] == ["http://b"])
    assert [entry["event"] for entry in logs] == ["discovery.file_refused"]


async def test_a_file_may_come_later_and_go(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    with capture_logs() as logs:
        async with watching(path) as lists:
            await until(lambda: logs)
            replace(path, "- url: http://a")
            await until(lambda: lists)
            path.unlink()
            await until(lambda: len(logs) == 2)
            assert lists == [["http://a"]]


async def test_a_link_that_points_elsewhere_is_a_change(tmp_path: Path) -> None:
    """So Kubernetes updates a ConfigMap."""
    for version in ("1", "2"):
        (tmp_path / version).write_text(f"- url: http://v{version}")
    link = tmp_path / "endpoints.yaml"
    link.symlink_to(tmp_path / "1")
    async with watching(link) as lists:
        await until(lambda: lists)
        new = tmp_path / "new"
        new.symlink_to(tmp_path / "2")
        new.replace(link)
        await until(lambda: lists[-1] == ["http://v2"])
