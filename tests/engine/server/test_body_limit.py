"""The body limit, announced and streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from shoal.engine.server.settings import ServerSettings


@pytest.fixture
def settings() -> ServerSettings:
    return ServerSettings(max_body_bytes=100)


def body_of(num_bytes: int) -> bytes:
    body = b'{"prompt": "'
    return body + b"x" * (num_bytes - len(body) - 2) + b'"}'


async def in_parts(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 30):
        yield body[start : start + 30]


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_limit_is_exact(client: httpx.AsyncClient, streamed: bool) -> None:
    for num_bytes, status in ((100, 200), (101, 413)):
        body = body_of(num_bytes)
        response = await client.post("/tokenize", content=in_parts(body) if streamed else body)
        assert response.status_code == status
    assert response.json()["error"]["code"] == "payload_too_large"
    assert response.headers["connection"] == "close"
