from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from shoal.benchmarks.client.answer import Answer
from shoal.benchmarks.client.http import HTTPClient
from shoal.errors import ConfigError
from tests.benchmarks.client.raw_server import raw_server

BODY = b'data: {"choices": [{"text": "a"}]}\n\ndata: [DONE]\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


async def post(client: HTTPClient, *, timeout_s: float = 10.0) -> Answer:
    answer = Answer(keep_text=True)
    async with asyncio.timeout(timeout_s):
        await client.post("/v1/completions", b"{}", answer, request_id="r1")
    return answer


async def test_a_request_as_the_server_sees_it() -> None:
    async def handler(_number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE)

    async with raw_server(handler) as server:
        client = HTTPClient(server.url + "/proxy/", {"Authorization": "Bearer k"})
        answer = await post(client)
        client.close()
    assert (answer.error, answer.text, answer.status) == (None, "a", 200)
    (request,) = server.requests
    assert request.startswith(b"POST /proxy/v1/completions HTTP/1.1\r\n")
    for line in (b"X-Request-Id: r1", b"Authorization: Bearer k", b"Content-Length: 2"):
        assert line in request.split(b"\r\n")
    assert request.endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
async def test_chunked_bodies_in_any_pieces(size: int) -> None:
    response = chunked(BODY, size)

    async def handler(_number: int, writer: asyncio.StreamWriter) -> None:
        for index in range(0, len(response), 5):
            writer.write(response[index : index + 5])
            await asyncio.sleep(0)

    async with raw_server(handler) as server:
        client = HTTPClient(server.url, {})
        answer = await post(client)
        client.close()
    assert (answer.error, answer.text) == (None, "a")


async def test_connections_are_kept_and_used_again() -> None:
    async def handler(_number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE)

    async with raw_server(handler) as server:
        client = HTTPClient(server.url, {})
        for _ in range(3):
            assert (await post(client)).error is None
        assert server.num_connections == 1
        await asyncio.gather(post(client), post(client))
        assert server.num_connections == 2
        client.close()


async def test_connection_close_is_obeyed() -> None:
    async def handler(_number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        await writer.drain()
        writer.close()

    async with raw_server(handler) as server:
        client = HTTPClient(server.url, {})
        assert [(await post(client)).error for _ in range(2)] == [None, None]
        assert server.num_connections == 2
        client.close()


async def test_an_idle_connection_that_the_server_dropped_is_no_failure() -> None:
    async def handler(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 2:  # on the kept connection, after reading the request
            writer.close()
        else:
            writer.write(WHOLE)

    async with raw_server(handler) as server:
        client = HTTPClient(server.url, {})
        assert (await post(client)).error is None
        assert (await post(client)).error is None
        assert (server.num_connections, len(server.requests)) == (2, 3)
        client.close()


async def test_a_new_connection_that_closes_is_a_failure() -> None:
    async def handler(_number: int, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with raw_server(handler) as server:
        client = HTTPClient(server.url, {})
        assert (await post(client)).error == "disconnect"
        assert len(server.requests) == 1
        client.close()


async def test_a_stream_that_breaks_off() -> None:
    async def handler(_number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked(BODY, 1000)[: len(HEAD) + 80])
        await writer.drain()
        writer.close()

    async with raw_server(handler) as server:
        client = HTTPClient(server.url, {})
        assert (await post(client)).error == "cut_stream"
        client.close()


async def close_after(writer: asyncio.StreamWriter, response: bytes) -> None:
    writer.write(response)
    await writer.drain()
    writer.close()


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async def handler(_number: int, writer: asyncio.StreamWriter) -> None:
        await close_after(writer, HEAD + b"\r\n" + BODY)

    async with raw_server(handler) as server:
        client = HTTPClient(server.url, {})
        answers = [await post(client) for _ in range(2)]
        assert [(answer.error, answer.text) for answer in answers] == [(None, "a")] * 2
        assert server.num_connections == 2
        client.close()


async def test_a_stream_without_a_length_that_breaks_off() -> None:
    async def handler(_number: int, writer: asyncio.StreamWriter) -> None:
        await close_after(writer, HEAD + b"\r\n" + BODY.partition(b"data: [DONE]")[0])

    async with raw_server(handler) as server:
        client = HTTPClient(server.url, {})
        assert (await post(client)).error == "cut_stream"
        client.close()


async def test_an_error_without_a_length_says_what_it_said() -> None:
    async def handler(_number: int, writer: asyncio.StreamWriter) -> None:
        await close_after(writer, b"HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\ncome back later")

    async with raw_server(handler) as server:
        client = HTTPClient(server.url, {})
        answer = await post(client)
        client.close()
    assert (answer.error, answer.detail) == ("http_503", "come back later")


async def test_headers_that_break_off_are_no_answer() -> None:
    async def handler(_number: int, writer: asyncio.StreamWriter) -> None:
        await close_after(writer, HEAD)

    async with raw_server(handler) as server:
        client = HTTPClient(server.url, {})
        assert (await post(client)).error == "disconnect"
        client.close()


async def test_a_machine_without_sockets_is_not_the_servers_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", refuse)
    assert (await post(HTTPClient("http://127.0.0.1:1", {}))).error == "client_limit"


async def test_something_else_than_http() -> None:
    async def handler(_number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")

    async with raw_server(handler) as server:
        client = HTTPClient(server.url, {})
        assert (await post(client)).error == "bad_http"
        client.close()


async def test_an_interim_answer_announces_the_real_one() -> None:
    async def handler(_number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE)

    async with raw_server(handler) as server:
        client = HTTPClient(server.url, {})
        answer = await post(client)
        client.close()
    assert (answer.error, answer.status, answer.text) == (None, 200, "a")


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    answer = await post(HTTPClient(f"http://127.0.0.1:{port}", {}))
    assert answer.error == "connect"


async def test_a_cancelled_request_does_not_give_its_connection_back() -> None:
    async def handler(number: int, writer: asyncio.StreamWriter) -> None:
        if number > 1:
            writer.write(WHOLE)

    async with raw_server(handler) as server:
        client = HTTPClient(server.url, {})
        with pytest.raises(TimeoutError):
            await post(client, timeout_s=1.0)
        assert (await post(client)).error is None
        assert server.num_connections == 2
        client.close()


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ConfigError, match="http"):
        HTTPClient(url, {})


def test_a_header_cannot_smuggle_another() -> None:
    with pytest.raises(ConfigError, match="line break"):
        HTTPClient("http://host", {"Authorization": "k\r\nX: y"})
