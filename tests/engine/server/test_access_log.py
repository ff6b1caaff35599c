"""One line per request, with counts and without texts."""

from __future__ import annotations

import httpx
import pytest
import structlog

BODY = {"prompt": "my secret", "max_tokens": 3}


@pytest.mark.parametrize("stream", [False, True])
async def test_one_line_with_the_facts(client: httpx.AsyncClient, stream: bool) -> None:
    with structlog.testing.capture_logs() as lines:
        response = await client.post(
            "/v1/completions",
            json={**BODY, "stream": stream},
            headers={"x-request-id": "abc-1"},
        )
    (line,) = lines
    assert line.pop("duration_s") >= 0
    assert line == {
        "event": "http.request",
        "log_level": "info",
        "method": "POST",
        "path": "/v1/completions",
        "status": 200,
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "cached_tokens": 2,
    }
    assert response.headers["x-request-id"] == "abc-1"


@pytest.mark.parametrize("wanted", ["", "a b", "x" * 129, 'a"b', "é"])
async def test_odd_request_ids_are_replaced(client: httpx.AsyncClient, wanted: str) -> None:
    response = await client.get("/version", headers={"x-request-id": wanted.encode()})
    assert len(response.headers["x-request-id"]) == 32


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_probes_are_quiet(client: httpx.AsyncClient, path: str) -> None:
    with structlog.testing.capture_logs() as lines:
        await client.get(path)
    assert [line["log_level"] for line in lines] == ["debug"]


async def test_errors_have_their_line_too(client: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as lines:
        await client.post("/v1/completions", json={"prompt": "my secret", "max_tokens": "many"})
    (line,) = lines
    assert line["status"] == 400
    assert "secret" not in str(line)
