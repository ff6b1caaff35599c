"""Questions to servers of different kinds."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from shoal.benchmarks.preflight import Preflight, ServerUnusable
from shoal.benchmarks.workload.words import CANDIDATE_WORDS
from shoal.errors import ConfigError


def words_of(text: str, *, bos: bool) -> list[int]:
    """A tokenizer that knows half of the words; the others are two tokens."""
    ids = [1] if bos else []
    for word in text.split():
        index = CANDIDATE_WORDS.index(word) if word in CANDIDATE_WORDS else 7000
        ids += [index] if index % 2 == 0 else [5000, 5001]
    return ids


def preflight(
    *, models: Any = None, status: int = 200, dialect: str | None = "vllm", bos: bool = False
) -> Preflight:
    """Questions to a server that answers them so."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            listing = {"data": [{"id": "m"}]} if models is None else models
            return httpx.Response(status, json=listing)
        field = {"vllm": "prompt", "llama.cpp": "content"}.get(dialect or "")
        body = json.loads(request.content)
        if request.url.path != "/tokenize" or field not in body:
            return httpx.Response(404, json={"error": "?"})
        return httpx.Response(200, json={"tokens": words_of(body[field], bos=bos)})

    return Preflight("http://server", {}, transport=httpx.MockTransport(answer))


def test_the_only_model_need_not_be_named() -> None:
    with preflight() as asking:
        assert asking.choose_model(None) == "m"
        assert asking.choose_model("m") == "m"


def test_a_model_that_is_not_there() -> None:
    with preflight() as asking, pytest.raises(ServerUnusable, match="it has: m"):
        asking.choose_model("other")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"status": 401}, "SHOAL_API_KEY"),
        ({"status": 500}, "answers 500"),
        ({"models": {"models": []}}, "not answer like an OpenAI server"),
        ({"models": {"data": []}}, "name one with --model"),
    ],
)
def test_servers_that_cannot_be_used(given: dict[str, Any], message: str) -> None:
    with preflight(**given) as asking, pytest.raises(ServerUnusable, match=message):
        asking.choose_model(None)


@pytest.mark.parametrize("dialect", ["vllm", "llama.cpp"])
@pytest.mark.parametrize("bos", [False, True])
def test_words_of_one_token_are_found(dialect: str, bos: bool) -> None:
    with preflight(dialect=dialect, bos=bos) as asking:
        pool = asking.token_pool("m")
    assert pool.exact
    assert pool.overhead == int(bos)
    expected = [w for i, w in enumerate(CANDIDATE_WORDS) if i % 2 == 0]
    assert pool.words == expected
    assert pool.token_ids == [CANDIDATE_WORDS.index(word) for word in expected]


def test_a_server_that_cannot_be_asked_gets_common_words() -> None:
    with preflight(dialect=None) as asking:
        pool = asking.token_pool("m")
    assert not pool.exact
    assert pool.words == list(CANDIDATE_WORDS)
    assert pool.token_ids == []


def test_what_is_no_url() -> None:
    with Preflight("ftp://x", {}) as asking, pytest.raises(ConfigError, match="http"):
        asking.choose_model(None)


def test_a_proxy_in_the_environment_is_not_asked(
    worker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load would not go through it."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with Preflight(worker_url, {}) as asking:
        assert asking.choose_model(None) == "fake"
