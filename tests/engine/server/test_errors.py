"""Every error has OpenAI's shape, whatever its cause and whenever it comes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from shoal.engine.output import Health
from shoal.errors import EngineUnavailable, QueueFull, QueueTimeout, RequestError
from tests.engine.server.events import events_of
from tests.engine.server.fake_engine import FakeEngine

BODY = {"model": "fake", "prompt": "hi"}


def error_of(response: httpx.Response) -> dict[str, Any]:
    (name,) = response.json()
    assert name == "error"
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/models/", 404, "model_not_found"),
        ("GET", "/v1/completions", 405, "method_not_allowed"),
        ("GET", "/v1/models/other", 404, "model_not_found"),
    ],
)
async def test_routes(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await client.request(method, path)
    assert (response.status_code, error_of(response)["code"]) == (status, code)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/tokenize"])
async def test_unknown_model(client: httpx.AsyncClient, path: str) -> None:
    body = {"model": "other", "prompt": "hi", "messages": [{"role": "user", "content": "hi"}]}
    response = await client.post(path, json=body)
    assert (response.status_code, error_of(response)["code"]) == (404, "model_not_found")


NO_JSON_OBJECT = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"prompt": "\xff"}',
    b'{"prompt": "\\ud800"}',
    b"\xff\xfe",
    b'{"x":' + b"[" * 50_000,
    b'{"temperature": 1e999}',
    b'{"max_tokens": NaN}',
    b'{"max_tokens": ' + b"9" * 10_000 + b"}",
]


@pytest.mark.parametrize("body", NO_JSON_OBJECT)
async def test_what_is_no_json_object_is_400(client: httpx.AsyncClient, body: bytes) -> None:
    for path in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"):
        response = await client.post(path, content=body)
        assert response.status_code == 400
        error_of(response)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (QueueFull("full", retry_after_s=2.2), 429),
        (QueueTimeout("late", retry_after_s=2.2), 503),
        (EngineUnavailable("gone", retry_after_s=2.2), 503),
    ],
)
async def test_refusals_are_statuses_also_for_streams(
    client: httpx.AsyncClient, engine: FakeEngine, error: RequestError, status: int, stream: bool
) -> None:
    engine.error = error
    response = await client.post("/v1/completions", json={**BODY, "stream": stream})
    assert response.status_code == status
    assert response.headers["retry-after"] == "3"
    assert error_of(response)["message"] == error.message
    assert engine.running == set()


@pytest.mark.parametrize(
    ("error", "kind"),
    [(EngineUnavailable("gone"), "service_unavailable"), (ValueError("bug"), "internal_error")],
)
async def test_an_error_amid_a_stream_is_its_last_event(
    client: httpx.AsyncClient, engine: FakeEngine, error: Exception, kind: str
) -> None:
    engine.error, engine.error_after = error, 3
    response = await client.post("/v1/completions", json={**BODY, "stream": True})
    assert response.status_code == 200
    *chunks, last = events_of(response)
    assert len(chunks) == 3
    assert last["error"]["type"] == kind
    assert "bug" not in last["error"]["message"]
    assert engine.running == set()


async def test_one_failed_choice_ends_them_all(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.error, engine.error_after = QueueFull("full"), 2
    response = await client.post("/v1/completions", json={**BODY, "n": 3})
    assert response.status_code == 429
    assert engine.running == set()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fault_of_ours_is_500_without_details(
    client: httpx.AsyncClient, engine: FakeEngine, stream: bool
) -> None:
    engine.error = ValueError("secret")
    response = await client.post("/v1/completions", json={**BODY, "stream": stream})
    assert response.status_code == 500
    assert "secret" not in error_of(response)["message"]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/models", "/ready"])
async def test_before_the_model_is_loaded(
    client: httpx.AsyncClient, engine: FakeEngine, path: str
) -> None:
    engine.is_ready = False
    engine.health_state = Health(False, "loading weights")
    method = "POST" if path == "/v1/completions" else "GET"
    response = await client.request(method, path, json=BODY)
    assert response.status_code == 503
    assert "loading weights" in error_of(response)["message"]
    assert response.headers["retry-after"] == "1"
