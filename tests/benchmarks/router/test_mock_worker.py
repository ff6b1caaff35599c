"""The mock worker in C, as a router meets it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from shoal.benchmarks.router.loads.requests import stream_text
from shoal.benchmarks.router.processes import ServerProcess
from shoal.metrics import parse_prometheus_text

StartMock = Callable[..., str]
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60, trust_env=False) as client:
        yield client


def chat(http: httpx.Client, url: str, **body: object) -> httpx.Response:
    answer = http.post(f"{url}/v1/chat/completions", json={"messages": HELLO, **body})
    answer.raise_for_status()
    return answer


def cached_tokens(http: httpx.Client, url: str, content: str) -> int:
    messages = [{"role": "user", "content": content}]
    usage = chat(http, url, messages=messages, max_tokens=1).json()["usage"]
    return int(usage["prompt_tokens_details"]["cached_tokens"])


def test_a_whole_answer_names_its_worker_and_counts_its_tokens(
    mock_url: StartMock, http: httpx.Client
) -> None:
    answer = chat(http, mock_url("--model", "m"), max_tokens=3).json()
    assert answer["model"] == "m"
    assert answer["system_fingerprint"] == "w1"
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": " tok0 tok1 tok2"}
    assert answer["usage"]["completion_tokens"] == 3


def test_a_stream_has_a_chunk_for_each_token_and_ends_with_done(
    mock_url: StartMock, http: httpx.Client
) -> None:
    answer = chat(http, mock_url("--itl-ms", "1"), max_tokens=3, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert stream_text(answer.content) == (" tok0 tok1 tok2", True)
    assert b'"usage"' not in answer.content


def test_usage_comes_with_a_stream_when_it_is_asked_for(
    mock_url: StartMock, http: httpx.Client
) -> None:
    options = {"include_usage": True}
    answer = chat(http, mock_url(), max_tokens=2, stream=True, stream_options=options)
    assert b'"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":2' in answer.content


def test_completions_and_chunked_bodies(mock_url: StartMock, http: httpx.Client) -> None:
    def body() -> Iterator[bytes]:
        yield b'{"prompt": "one '
        yield b'two", "max_tokens": 2}'

    answer = http.post(f"{mock_url()}/v1/completions", content=body())
    assert answer.json()["choices"][0]["text"] == " tok0 tok1"


def test_the_prefix_cache_holds_blocks_and_forgets_the_oldest(
    mock_url: StartMock, http: httpx.Client
) -> None:
    url = mock_url("--cache-blocks", "4", "--block-chars", "64")
    first, second = "a" * 150, "b" * 200  # with a line end each: 2 and 3 full blocks
    assert cached_tokens(http, url, first) == 0
    assert cached_tokens(http, url, first + "and more") == 2 * 16
    assert cached_tokens(http, url, second) == 0
    # Of the first prompt the tail went first: its first block is still there.
    assert cached_tokens(http, url, first) == 1 * 16


def test_prefill_takes_time_for_what_is_not_cached(mock_url: StartMock, http: httpx.Client) -> None:
    url = mock_url("--prefill-us", "20000")
    text = [{"role": "user", "content": "x" * 640}]
    cold = chat(http, url, messages=text, max_tokens=1).elapsed.total_seconds()
    assert cold >= 0.2


def test_metrics_have_vllms_names(mock_url: StartMock, http: httpx.Client) -> None:
    url = mock_url("--cache-blocks", "900")
    cached_tokens(http, url, "y" * 640)
    cached_tokens(http, url, "y" * 640)
    samples = {s.name: s for s in parse_prometheus_text(http.get(f"{url}/metrics").text)}
    assert samples["vllm:prefix_cache_queries_total"].value == 2 * 10 * 16
    assert samples["vllm:prefix_cache_hits_total"].value == 10 * 16
    assert samples["vllm:request_success_total"].value == 2
    assert samples["vllm:cache_config_info"].labels["num_gpu_blocks"] == "900"


def test_control_empties_the_cache_and_the_counts(mock_url: StartMock, http: httpx.Client) -> None:
    url = mock_url()
    cached_tokens(http, url, "z" * 640)
    http.get(f"{url}/ctl?reset=1&cache_blocks=7&ttft_ms=1").raise_for_status()
    stats = http.get(f"{url}/stats").json()
    assert (stats["requests"], stats["blocks"], stats["running"]) == (0, 0, 0)
    assert cached_tokens(http, url, "z" * 640) == 0


def test_sigterm_ends_it_after_what_runs(
    mock_process: Callable[..., ServerProcess], http: httpx.Client
) -> None:
    process = mock_process("--ttft-ms", "20", "--itl-ms", "20")
    begun, ended = threading.Event(), []

    def follow() -> None:
        body = {"messages": HELLO, "max_tokens": 20, "stream": True}
        url = f"{process.name}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, timeout=60, trust_env=False) as answer:
            content = b""
            for part in answer.iter_raw():
                begun.set()
                content += part
            ended.append(stream_text(content))

    thread = threading.Thread(target=follow)
    thread.start()
    assert begun.wait(60)
    process.signal(signal.SIGTERM)
    process.wait_until_ended(10)
    thread.join(10)
    assert ended == [("".join(f" tok{i}" for i in range(20)), True)]
    with pytest.raises(httpx.ConnectError):
        http.get(f"{process.name}/health")


def test_an_unknown_route_is_a_404(mock_url: StartMock, http: httpx.Client) -> None:
    assert http.get(f"{mock_url()}/v1/nothing").status_code == 404
