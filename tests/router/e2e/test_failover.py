"""kill -9 of workers under streams: who reads them notices nothing, or is told."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.router.e2e.asking import (
    CHAT,
    COMPLETIONS,
    Told,
    chat_body,
    eventually,
    greedy,
    stream,
)
from tests.router.e2e.conftest import Connect, StartWorkers
from tests.router.e2e.routers import Router
from tests.router.e2e.workers import FakeWorker

SLOW = ("--ttft", "0.02", "--itl", "0.02")
NUM_TOKENS = 50
FAILOVERS = "shoal_router_failovers_total"
REQUESTS = "shoal_router_requests_total"
IN_TURN = {"routing": {"policy": "round_robin"}}


def bodies() -> list[tuple[str, dict[str, Any]]]:
    """Greedy streams of all kinds: with and without usage and token ids, chats and completions."""
    chats = [
        greedy(f"Question {i}.", max_tokens=NUM_TOKENS, **fields)
        for i, fields in enumerate(
            [{}, {}, {}, {"stream_options": None}, {"stop": "#"}, {"return_token_ids": True}]
        )
    ]
    completions: list[dict[str, Any]] = [
        {
            "model": "fake", "prompt": f"Once upon a time {i}", "max_tokens": NUM_TOKENS,
            "temperature": 0, "stream": True, **fields,
        }
        for i, fields in enumerate(
            [{}, {"stream_options": {"include_usage": True}}, {"return_token_ids": True}]
        )
    ]  # fmt: skip
    return [(CHAT, body) for body in chats] + [(COMPLETIONS, body) for body in completions]


async def uncut(worker: FakeWorker) -> list[Told]:
    """What a worker says that nobody kills."""
    async with httpx.AsyncClient(base_url=worker.url, timeout=30, trust_env=False) as client:
        return await asyncio.gather(*(stream(client, body, path) for path, body in bodies()))


def busy(workers: list[FakeWorker]) -> FakeWorker:
    """The one that works."""
    return next(worker for worker in workers if worker.num_running)


def token_ids(told: Told) -> list[int]:
    choices = [choice for event in told.events for choice in event.get("choices", ())]
    return [token_id for choice in choices for token_id in choice.get("token_ids") or ()]


def num_prompt_tokens(worker: FakeWorker, body: dict[str, Any]) -> int:
    prompt = {name: body[name] for name in ("messages", "prompt") if name in body}
    count: int = httpx.post(f"{worker.url}/tokenize", json=prompt, verify=False).json()["count"]
    return count


def usage_of(told: Told) -> list[tuple[int, int]]:
    return [(usage["prompt_tokens"], usage["completion_tokens"]) for usage in told.usages]


async def test_streams_survive_two_deaths(
    start_workers: StartWorkers, workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    mortals = start_workers(3, *SLOW)
    router.configure(mortals, IN_TURN)
    client, before = connect(router), router.metrics()
    expected = await uncut(workers[0])
    tolds = [Told() for _ in bodies()]
    asking = [
        asyncio.create_task(stream(client, body, path, told=told))
        for (path, body), told in zip(bodies(), tolds, strict=True)
    ]
    await eventually(lambda: all(told.num_parts > 3 for told in tolds), "every stream to run")
    mortals[0].kill()
    await eventually(lambda: all(told.num_parts > 20 for told in tolds), "all to be half done")
    mortals[1].kill()
    await asyncio.gather(*asking)
    for (_, body), told, whole in zip(bodies(), tolds, expected, strict=True):
        assert told.is_whole, told.raw[-500:]
        assert told.text == whole.text
        assert told.roles == whole.roles
        assert told.finish_reasons == whole.finish_reasons == ["length"]
        assert usage_of(told) == usage_of(whole)
        assert token_ids(told) == token_ids(whole)
        assert (b"token_ids" in told.raw) is ("return_token_ids" in body)
    counted = router.metrics() - before
    assert counted.by(REQUESTS, "code") == {"200": len(tolds)}
    # A third of them had the first worker. The second had another third, and more by then.
    assert 3 + 3 <= counted.sum(FAILOVERS) <= 3 + 6, counted.by(FAILOVERS, "outcome")
    assert set(counted.by(FAILOVERS, "outcome")) <= {"continue", "replay"}
    tokens = counted.by("shoal_router_tokens_total", "kind")
    assert tokens["completion"] == NUM_TOKENS * len(tolds)  # also of those that did not ask
    assert tokens["prompt"] == sum(num_prompt_tokens(workers[0], body) for _, body in bodies())


SAMPLED = chat_body("Dream.", max_tokens=NUM_TOKENS, stream=True, temperature=1.0)


@pytest.mark.parametrize("counts", [False, True])
async def test_a_sampled_stream_is_cut_so_that_it_shows(
    start_workers: StartWorkers, router: Router, connect: Connect, counts: bool
) -> None:
    mortals = start_workers(2, *SLOW)
    router.configure(mortals, IN_TURN)
    client, before = connect(router), router.metrics()
    body = {**SAMPLED, "stream_options": {"include_usage": True}} if counts else SAMPLED
    told = Told()
    asking = asyncio.create_task(stream(client, body, told=told))
    await eventually(lambda: told.num_parts > 3, "the stream to run")
    busy(mortals).kill()
    await asking
    assert told.num_done == 0
    assert told.is_broken
    assert told.finish_reasons == []
    # Bytes that nobody has to read are passed on as they are: then nothing can be said at the end.
    assert (told.error is None) is counts
    assert (router.metrics() - before).sum(REQUESTS) == 1


async def test_it_goes_on_where_any_text_will_do(
    start_workers: StartWorkers, router: Router, connect: Connect
) -> None:
    mortals = start_workers(2, *SLOW)
    router.configure(mortals, {**IN_TURN, "failover": {"mode": "any"}})
    client, before = connect(router), router.metrics()
    told = Told()
    asking = asyncio.create_task(stream(client, SAMPLED, told=told))
    await eventually(lambda: told.num_parts > 3, "the stream to run")
    busy(mortals).kill()
    await asking
    assert told.is_whole
    assert len(told.text.split()) == NUM_TOKENS
    assert (router.metrics() - before).by(FAILOVERS, "outcome") == {"continue": 1}


async def test_a_stream_waits_for_the_only_worker_to_come_back(
    start_workers: StartWorkers, workers: list[FakeWorker], router: Router, connect: Connect
) -> None:
    [mortal] = start_workers(1, *SLOW)
    # Attempts until it is known to be gone fail at once: as many as that takes.
    router.configure([mortal], {**IN_TURN, "failover": {"max_attempts": 100}})
    expected = (await uncut(workers[0]))[0]
    told = Told()
    asking = asyncio.create_task(stream(connect(router), bodies()[0][1], told=told))
    await eventually(lambda: told.num_parts > 3, "the stream to run")
    await asyncio.to_thread(mortal.start_again)
    await asking
    assert told.is_whole, told.raw[-500:]
    assert told.text == expected.text


async def test_without_another_worker_the_end_shows(
    start_workers: StartWorkers, router: Router, connect: Connect
) -> None:
    [mortal] = start_workers(1, *SLOW)
    router.configure([mortal], {**IN_TURN, "failover": {"mode": "exact", "max_attempts": 1}})
    told = Told()
    asking = asyncio.create_task(stream(connect(router), bodies()[0][1], told=told))
    await eventually(lambda: told.num_parts > 3, "the stream to run")
    mortal.kill()
    await asking
    assert (told.num_done, told.finish_reasons) == (0, [])
    assert told.error is not None
    assert (told.error["type"], told.error["code"]) == ("upstream_error", "stream_cut")


@pytest.mark.parametrize("method", ["continue", "replay"])
@pytest.mark.parametrize("fault", ["cut", "stall"])
async def test_what_else_ends_a_stream(
    workers: list[FakeWorker], router: Router, connect: Connect, fault: str, method: str
) -> None:
    """The connection breaks, or nothing comes any more."""
    router.configure(workers[:2], {**IN_TURN, "upstream": {"stream_idle_timeout_s": 1.5}})
    body = greedy(max_tokens=NUM_TOKENS, stop="#" if method == "replay" else None)
    async with connect(workers[2]) as direct:
        expected = await stream(direct, body)
    workers[0].fail({"kind": fault, "after_tokens": 7})
    client, before = connect(router), router.metrics()
    for _ in range(2):
        told = await stream(client, body)
        assert told.is_whole, told.raw[-500:]
        assert told.text == expected.text
    assert workers[0].num_faults() == 1
    assert (router.metrics() - before).by(FAILOVERS, "outcome") == {method: 1}
