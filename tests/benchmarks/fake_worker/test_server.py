"""A fake worker as a process: faults, disconnects, clients and events over real sockets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import openai
import pytest
import zmq

from tests.benchmarks.conftest import fake_worker
from tests.engine.test_kv_events import free_endpoint

STREAM: dict[str, Any] = {"prompt": "able about", "max_tokens": 8, "stream": True}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with (
        fake_worker("--ttft", "0.01", "--itl", "0.002") as url,
        httpx.Client(base_url=url, timeout=30.0) as made,
    ):
        yield made


@pytest.fixture(autouse=True)
def no_faults(client: httpx.Client) -> Iterator[None]:
    yield
    client.post("/faults", json={"faults": []}).raise_for_status()


def set_fault(client: httpx.Client, kind: str, **fields: Any) -> None:
    client.post("/faults", json={"faults": [{"kind": kind, **fields}]}).raise_for_status()


def gauge(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))


def words_before_the_end(client: httpx.Client, body: dict[str, Any]) -> tuple[list[str], bool]:
    """Words of a stream, and whether it ended as it should."""
    words: list[str] = []
    with client.stream("POST", "/v1/completions", json=body) as response:
        assert response.status_code == 200
        try:
            for line in response.iter_lines():
                if line == "data: [DONE]":
                    return words, True
                if line.startswith("data: "):
                    words.append(json.loads(line[6:])["choices"][0]["text"])
        except httpx.RemoteProtocolError:
            return words, False
    return words, False


def test_the_official_client_streams(client: httpx.Client) -> None:
    with openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="none") as official:
        stream = official.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": "hi"}], max_tokens=4, stream=True
        )
        said = [chunk.choices[0].delta.content for chunk in stream]
    assert len([word for word in said if word]) == 4


def test_an_aborted_connection(client: httpx.Client) -> None:
    set_fault(client, "abort")
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        client.post("/v1/completions", json=STREAM)


def test_a_server_error(client: httpx.Client) -> None:
    set_fault(client, "error")
    response = client.post("/v1/completions", json=STREAM)
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "fault"


def test_a_cut_stream(client: httpx.Client) -> None:
    set_fault(client, "cut", after_tokens=3)
    words, whole = words_before_the_end(client, STREAM)
    assert (len(words), whole) == (3, False)


def test_a_shorter_answer_in_good_form(client: httpx.Client) -> None:
    set_fault(client, "wrong-length", after_tokens=3)
    words, whole = words_before_the_end(client, STREAM)
    assert (len([word for word in words if word]), whole) == (3, True)


@pytest.mark.parametrize("kind", ["hang", "stall"])
def test_patience_is_the_clients_and_its_leaving_frees(client: httpx.Client, kind: str) -> None:
    set_fault(client, kind, after_tokens=2)
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/completions", json=STREAM, timeout=0.5)
    deadline = time.monotonic() + 20
    while gauge(client, "vllm:num_requests_running") > 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_whoever_leaves_frees_what_it_held(client: httpx.Client) -> None:
    body = {**STREAM, "max_tokens": 5000}
    with client.stream("POST", "/v1/completions", json=body) as response:
        lines = response.iter_lines()  # kept: httpx ends the stream when the iterator is dropped
        next(lines)
        assert gauge(client, "vllm:num_requests_running") == 1
        assert gauge(client, "vllm:kv_cache_usage_perc") > 0
    deadline = time.monotonic() + 20
    while gauge(client, "vllm:kv_cache_usage_perc") > 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_answer_cut_here_continues_there(client: httpx.Client) -> None:
    prompt = " " + STREAM["prompt"]
    whole, _ = words_before_the_end(client, {**STREAM, "prompt": prompt})
    set_fault(client, "cut", after_tokens=3)
    begun, _ = words_before_the_end(client, {**STREAM, "prompt": prompt})
    with (
        fake_worker("--ttft", "0", "--itl", "0") as other,
        httpx.Client(base_url=other) as there,
    ):
        rest = {**STREAM, "prompt": prompt + "".join(begun), "max_tokens": 5}
        ended, _ = words_before_the_end(there, rest)
    assert begun + ended == whole


def test_events_of_a_running_worker() -> None:
    endpoint, replay = free_endpoint(), free_endpoint()
    options = ("--kv-events-endpoint", endpoint, "--kv-events-replay-endpoint", replay,
               "--ttft", "0", "--itl", "0", "--block-size", "4")  # fmt: skip
    prompt = list(range(12))
    context = zmq.Context()
    try:
        with fake_worker(*options) as url, httpx.Client(base_url=url) as client:
            sources = client.get("/kv_event_sources").json()
            assert (sources["endpoint"], sources["block_size"]) == (endpoint, 4)
            body = {"prompt": prompt, "max_tokens": 2}
            client.post("/v1/completions", json=body).raise_for_status()
            asking = context.socket(zmq.DEALER)
            asking.connect(replay)
            asking.send_multipart([b"", (0).to_bytes(8, "big")])
            assert asking.poll(20_000)
            _, _, number, payload = asking.recv_multipart()
    finally:
        context.destroy(linger=0)
    assert int.from_bytes(number, "big") == 0
    _, (stored, *_), _ = msgspec.msgpack.decode(payload)
    assert stored["type"] == "BlockStored"
    assert stored["token_ids"] == prompt
    assert len(stored["block_hashes"]) == 3
