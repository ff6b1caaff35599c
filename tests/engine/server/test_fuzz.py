"""Whatever the body: an answer or a 4xx, never a 500, and nothing left running."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.engine.server.app import create_app
from shoal.engine.server.settings import ServerSettings
from shoal.openai.chat import ChatCompletionRequest
from shoal.openai.completion import CompletionRequest
from tests.engine.server.fake_engine import FakeEngine

GOOD: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": "fake", "prompt": "hi", "max_tokens": 2},
    "/v1/chat/completions": {
        "model": "fake",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 2,
    },
    "/tokenize": {"prompt": "hi"},
    "/detokenize": {"tokens": [1]},
}
FIELDS = {
    "/v1/completions": CompletionRequest.__struct_fields__,
    "/v1/chat/completions": ChatCompletionRequest.__struct_fields__,
    "/tokenize": ("prompt", "messages", "add_special_tokens"),
    "/detokenize": ("tokens",),
}

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(["user", "assistant", "json_object", "\ud800", "\x00", "text"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "role", "content", "include_usage", "1", "-1", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    path = draw(st.sampled_from(sorted(GOOD)))
    changes = draw(st.dictionaries(st.sampled_from(FIELDS[path]), values, max_size=3))
    return path, {**GOOD[path], **changes}


@settings(max_examples=300, deadline=None)
@given(requests())
def test_no_body_is_a_500(request: tuple[str, dict[str, Any]]) -> None:
    path, body = request
    response, engine = asyncio.run(send(path, json.dumps(body).encode()))
    assert response.status_code in (200, 400, 404), response.text
    assert "internal_error" not in response.text
    assert engine.running == set()


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.binary(max_size=40), st.integers(0, 60))
def test_no_mangled_bytes_are_a_500(path: str, noise: bytes, position: int) -> None:
    good = json.dumps(GOOD[path]).encode()
    mangled = good[:position] + noise + good[position + len(noise) :]
    response, engine = asyncio.run(send(path, mangled))
    assert response.status_code in (200, 400, 404), response.text
    assert engine.running == set()


async def send(path: str, body: bytes) -> tuple[httpx.Response, FakeEngine]:
    transport = httpx.ASGITransport(APP)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.post(path, content=body), ENGINE


ENGINE = FakeEngine()
APP = create_app(ENGINE, ServerSettings())
