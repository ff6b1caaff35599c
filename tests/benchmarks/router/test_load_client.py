"""The load client in C, against the mock worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from shoal.benchmarks.router.loads.requests import chat_request, post
from shoal.benchmarks.router.loads.saturation import saturate
from shoal.benchmarks.router.processes import free_ports
from shoal.benchmarks.router.programs import BenchFailed, Programs


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_every_answer_is_counted_once(
    programs: Programs, mock_url: Callable[..., str], tmp_path: Path
) -> None:
    url = mock_url("--ttft-ms", "2")
    request = chat_request("mock", max_tokens=1, stream=False, headers={})
    outcome = saturate(
        programs.load_client, [port_of(url)], request, num_connections=4, duration_s=0.3,
        folder=tmp_path,
    )  # fmt: skip
    answers = httpx.get(f"{url}/stats", trust_env=False).json()["answers"]
    assert 0 <= answers - outcome.requests <= 4  # the last ones were on their way
    assert outcome.requests > 0
    assert outcome.errors == 0
    assert 2.0 <= outcome.p50_ms <= outcome.p99_ms <= outcome.max_ms


def test_streams_are_answers_too(
    programs: Programs, mock_url: Callable[..., str], tmp_path: Path
) -> None:
    request = chat_request("mock", max_tokens=5, stream=True, headers={})
    outcome = saturate(
        programs.load_client, [port_of(mock_url())], request, num_connections=2, duration_s=0.2,
        folder=tmp_path,
    )  # fmt: skip
    assert outcome.requests > 0
    assert outcome.errors == 0


def test_other_answers_and_closed_ports_are_errors(
    programs: Programs, mock_url: Callable[..., str], tmp_path: Path
) -> None:
    missing = post(b"{}", {}).replace(b"/v1/chat/completions", b"/v1/nothing")
    for port in (port_of(mock_url()), *free_ports(1)):
        outcome = saturate(
            programs.load_client, [port], missing, num_connections=2, duration_s=0.2,
            folder=tmp_path,
        )  # fmt: skip
        assert outcome.requests == 0
        assert outcome.errors > 0


def test_a_client_that_breaks_is_named(programs: Programs, tmp_path: Path) -> None:
    with pytest.raises(BenchFailed, match="load_client"):
        saturate(
            programs.load_client, [1], b"x", num_connections=0, duration_s=0.1, folder=tmp_path
        )
