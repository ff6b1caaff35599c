"""Loads against a mock worker: what was sent, what was counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from shoal.benchmarks.router.cases import plans
from shoal.benchmarks.router.http_client import Answer
from shoal.benchmarks.router.loads.closed_loop import Now, Verdict, closed_loop
from shoal.benchmarks.router.loads.conversations import Conversations, converse
from shoal.benchmarks.router.loads.many_clients import settle, stream_all
from shoal.benchmarks.router.loads.paced import paced
from shoal.benchmarks.router.loads.percentiles import percentile
from shoal.benchmarks.router.loads.requests import chat_request
from shoal.benchmarks.router.loads.streams import streams

StartMock = Callable[..., str]
HELLO = chat_request("mock", max_tokens=1, stream=False, headers={})


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def requests_at(url: str) -> int:
    return int(httpx.get(f"{url}/stats", trust_env=False).json()["requests"])


async def test_a_paced_load_sends_its_requests_and_counts_those_after_the_warm_up(
    mock_url: StartMock,
) -> None:
    url = mock_url()
    at_warm: list[int] = []
    outcome = await paced(
        [port_of(url)], HELLO, rate=200, warm_up_s=0.1, duration_s=0.2, num_clients=4,
        on_warm=lambda: at_warm.append(requests_at(url)),
    )  # fmt: skip
    assert len(outcome.latencies_s) == outcome.num_requests == 40
    assert outcome.num_failed == 0
    assert requests_at(url) == 60
    assert at_warm[0] <= 20


async def test_failures_of_a_paced_load_are_counted(mock_url: StartMock) -> None:
    missing = HELLO.replace(b"/v1/chat/completions", b"/v1/nothing")
    outcome = await paced(
        [port_of(mock_url())], missing, rate=200, warm_up_s=0, duration_s=0.1, num_clients=2,
        on_warm=lambda: None,
    )  # fmt: skip
    assert (outcome.num_failed, outcome.latencies_s) == (20, [])


async def test_streams_are_timed_and_short_ones_are_dropped(mock_url: StartMock) -> None:
    port = port_of(mock_url("--ttft-ms", "20", "--itl-ms", "10"))
    request = chat_request("mock", max_tokens=4, stream=True, headers={})
    good = await streams(
        [port], request, num_clients=3, num_rounds=2, num_tokens=4, spread_s=0, timeout_s=10
    )
    assert (len(good.ttfts_s), good.num_tokens, good.num_dropped) == (6, 24, 0)
    assert min(good.ttfts_s) >= 0.019
    assert len(good.gaps_s) <= 6 * 4  # the last token and the end may come in one read
    short = await streams(
        [port], request, num_clients=1, num_rounds=1, num_tokens=40, spread_s=0, timeout_s=10
    )
    assert (short.ttfts_s, short.num_dropped) == ([], 1)


async def test_each_turn_of_a_conversation_sends_the_turns_before_it(mock_url: StartMock) -> None:
    workload = Conversations(
        num_sessions=2, num_turns=3, system_words=4, turn_words=2, answer_tokens=2, max_pause_s=0.01
    )
    url = mock_url()
    outcome = await converse([port_of(url)], workload, model="mock", headers={})
    assert (len(outcome.prompts), len(outcome.ttfts_s), outcome.num_failed) == (6, 6, 0)
    assert requests_at(url) == 6
    longest = max(outcome.prompts, key=lambda prompt: len(prompt.messages))
    roles = [message["role"] for message in longest.messages]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    assert longest.messages[2]["content"] == " tok0 tok1"
    assert len({prompt.messages[0]["content"] for prompt in outcome.prompts}) == 1
    assert len({prompt.messages[1]["content"] for prompt in outcome.prompts}) == 2


async def test_clients_go_round_until_the_script_has_ended(mock_url: StartMock) -> None:
    url = mock_url("--ttft-ms", "5")
    plan = plans.whole({}, num_tokens=1)
    seen: list[float] = []

    async def script(now: Now) -> None:
        async with asyncio.timeout(20):
            while requests_at(url) < 8:  # noqa: ASYNC110 - another process counts them
                await asyncio.sleep(0.005)
        seen.append(now())

    ended = await closed_loop([port_of(url)], [plan, plan], timeout_s=5, script=script)
    assert len(ended) == requests_at(url) >= 8
    assert {request.client for request in ended} == {0, 1}
    assert {request.verdict for request in ended} == {Verdict.GOOD}
    assert {request.detail for request in ended} == {"w1"}
    assert max(request.ended_s for request in ended) >= seen[0]


async def test_clients_that_stay_keep_their_connections(mock_url: StartMock) -> None:
    port = port_of(mock_url())
    clients, num_failed = await settle([port], HELLO, count=20)
    assert num_failed == 0
    assert all(client.is_open for client in clients)
    story = chat_request("mock", max_tokens=3, stream=True, headers={})
    assert await stream_all(clients, story, timeout_s=30) == 0
    for client in clients:
        client.close()


def answer_of(body: bytes, *, status: int = 200, complete: bool = True) -> Answer:
    return Answer(sent_at=0.0, status=status, complete=complete, parts=[body])


def events(*texts: str, done: bool = True) -> bytes:
    chunks = [f'data: {{"choices":[{{"delta":{{"content":"{text}"}}}}]}}\n\n' for text in texts]
    return "".join([*chunks, "data: [DONE]\n\n" if done else ""]).encode()


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        pytest.param(answer_of(events(" a", " b")), Verdict.GOOD, id="whole"),
        pytest.param(answer_of(events(" a b")), Verdict.GOOD, id="two tokens in one event"),
        pytest.param(answer_of(events(" a")), Verdict.CUT, id="a token is missing"),
        pytest.param(answer_of(events(" a", " a", " b")), Verdict.CUT, id="a token twice"),
        pytest.param(answer_of(events(" a", " b", done=False)), Verdict.CUT, id="no [DONE]"),
        pytest.param(
            answer_of(events(" a", " b"), complete=False), Verdict.CUT, id="connection lost"
        ),
        pytest.param(answer_of(b"", complete=False), Verdict.CUT, id="nothing after the head"),
        pytest.param(answer_of(b"{}", status=502), Verdict.FAILED, id="an error"),
        pytest.param(answer_of(b"", status=0, complete=False), Verdict.FAILED, id="no answer"),
    ],
)
def test_a_stream_is_good_only_with_every_word_once(answer: Answer, verdict: Verdict) -> None:
    assert plans.stream_judge(" a b")(answer)[0] is verdict


def test_percentiles_are_values_that_were_seen() -> None:
    values = [5.0, 1.0, 3.0, 2.0, 4.0]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 3, 5, 5]
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)
