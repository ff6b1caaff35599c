from __future__ import annotations

import httpx
import pytest

from shoal.cli.chat_client import ChatClient
from shoal.errors import EngineUnavailable, RequestError

HELLO = [{"role": "user", "content": "Hello"}]


def client_answering(status: int, text: str) -> ChatClient:
    answer = httpx.MockTransport(lambda request: httpx.Response(status, text=text))
    return ChatClient("http://server", transport=answer)


def test_comments_and_empty_deltas_are_no_text() -> None:
    stream = (
        ": keep-alive\n\n"
        'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'
        'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
        'data:{"choices":[{"delta":{"content":"b"},"finish_reason":"stop"}]}\n\n'
        'data: {"choices":[],"usage":{"prompt_tokens":3}}\n\n'
        "data: [DONE]\n\n"
    )
    assert list(client_answering(200, stream).stream("m", HELLO)) == ["a", "b"]


def test_an_error_inside_the_stream_is_raised_after_the_text() -> None:
    stream = (
        'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
        'data: {"error":{"message":"core died"}}\n\n'
    )
    answer = client_answering(200, stream).stream("m", HELLO)
    assert next(answer) == "a"
    with pytest.raises(RequestError, match="core died"):
        next(answer)


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        (400, '{"error":{"message":"prompt is too long"}}', "400 from .*: prompt is too long"),
        (502, "<html>bad gateway</html>", "502 from .*bad gateway"),
        (200, "data: what?\n\n", "not an OpenAI stream"),
    ],
)
def test_what_is_not_an_answer_is_an_error(status: int, text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        list(client_answering(status, text).stream("m", HELLO))


def test_a_server_that_is_not_one_of_ours() -> None:
    with pytest.raises(RequestError, match="does not answer like an OpenAI server"):
        client_answering(200, "<html>").model_names()


def test_nobody_there_says_what_to_do() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused")

    client = ChatClient("http://server", transport=httpx.MockTransport(refuse))
    with pytest.raises(EngineUnavailable, match="shoal serve MODEL"):
        client.model_names()


@pytest.mark.parametrize("url", ["http://server", "http://server/", "http://server/v1"])
def test_the_url_may_end_in_v1(url: str) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, json={"data": [{"id": "m"}]})

    assert ChatClient(url, transport=httpx.MockTransport(answer)).model_names() == ["m"]
    assert seen == ["http://server/v1/models"]
