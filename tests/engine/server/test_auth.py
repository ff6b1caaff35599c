"""API keys, and CORS in front of them."""

from __future__ import annotations

import httpx
import pytest

from shoal.engine.server.settings import ServerSettings


@pytest.fixture
def settings() -> ServerSettings:
    return ServerSettings(api_keys=("first", "sécond"), cors_origins=("https://chat.example",))


@pytest.mark.parametrize("key", ["first", "sécond"])
async def test_any_of_the_keys_opens(client: httpx.AsyncClient, key: str) -> None:
    headers = {"authorization": f"Bearer {key}".encode()}
    assert (await client.get("/v1/models", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer wrong", "Basic first", "first", "Bearer firs"]
)
@pytest.mark.parametrize("path", ["/v1/models", "/tokenize", "/openapi.json", "/nothing"])
async def test_anything_else_does_not(client: httpx.AsyncClient, header: str, path: str) -> None:
    response = await client.get(path, headers={"authorization": header})
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/version"])
async def test_probes_need_no_key(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200


async def test_web_pages_of_the_list_may_ask_and_read_errors(client: httpx.AsyncClient) -> None:
    headers = {"origin": "https://chat.example"}
    preflight = await client.options(
        "/v1/chat/completions",
        headers={**headers, "access-control-request-method": "POST"},
    )
    assert preflight.status_code == 200
    refused = await client.get("/v1/models", headers=headers)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://chat.example"


async def test_other_web_pages_may_not(client: httpx.AsyncClient) -> None:
    response = await client.get("/health", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in response.headers
