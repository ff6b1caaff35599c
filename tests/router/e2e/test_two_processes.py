"""Two data-plane processes decide as one, and the books stay right when one dies."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx

from tests.router.e2e.asking import CHAT, Told, chat_body, eventually, greedy, stream
from tests.router.e2e.conftest import Connect, StartWorkers
from tests.router.e2e.processes import until
from tests.router.e2e.routers import Router
from tests.router.e2e.workers import FakeWorker

FRESH = httpx.Limits(max_connections=None, max_keepalive_connections=0)
"""A connection a request: the kernel deals them out to the processes."""
IN_FLIGHT = "shoal_router_in_flight_requests"


def in_flight(router: Router) -> dict[str, int]:
    """By endpoint, as the state process adds it up."""
    counts = {name: endpoint["in_flight"] for name, endpoint in router.endpoints().items()}
    return {name: count for name, count in counts.items() if count}


async def test_requests_in_flight_are_known_to_both(
    start_workers: StartWorkers, pair: Router, connect: Connect
) -> None:
    slow = start_workers(2, "--ttft", "0.02", "--itl", "0.2")
    pair.configure(slow, {"routing": {"policy": "least_loaded"}})
    client = connect(pair, limits=FRESH)
    asking = []
    for number in range(12):
        asking.append(asyncio.create_task(stream(client, greedy(f"{number}", max_tokens=500))))
        # One after the other: each must hear of the one before it.
        await eventually(lambda: sum(in_flight(pair).values()) == number + 1, "it to be counted")  # noqa: B023
        await asyncio.to_thread(pair.wait_told)
    decided = Counter(decision["process"] for decision in pair.decisions(12))
    assert len(decided) == 2, "one process got them all"
    shares = in_flight(pair)
    assert shares.keys() == {worker.url for worker in slow}
    # Each alone would do as well with half of them; deaf to the other they would drift apart.
    assert abs(shares[slow[0].url] - shares[slow[1].url]) <= 2
    assert pair.metrics().by(IN_FLIGHT, "endpoint") == shares
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    await eventually(lambda: in_flight(pair) == {}, "the books to be empty")
    assert pair.metrics().by(IN_FLIGHT, "endpoint") == {}


async def test_a_conversation_stays_where_it_is(
    workers: list[FakeWorker], pair: Router, connect: Connect
) -> None:
    """Whichever process its next turn meets."""
    pair.configure(workers, {"routing": {"policy": "prefix"}})
    client = connect(pair, limits=FRESH)

    async def conversation(number: int) -> None:
        messages: list[dict[str, Any]] = [{"role": "system", "content": f"{number} word " * 800}]
        for turn in range(5):
            messages.append({"role": "user", "content": f"{number} {turn} " * 100})
            answer = await client.post(
                CHAT,
                json={**chat_body(max_tokens=4), "messages": messages},
                headers={"x-request-id": f"conversation-{number}-{turn}"},
            )
            messages.append(answer.json()["choices"][0]["message"])
            await asyncio.sleep(0.3)  # a client reads; the other process hears of it

    await asyncio.gather(*(conversation(number) for number in range(6)))
    places: dict[str, set[str]] = {}
    processes = set()
    for decision in pair.decisions(30):
        name, number, _ = decision["request_id"].split("-")
        assert name == "conversation"
        places.setdefault(number, set()).add(decision["endpoint"])
        processes.add(decision["process"])
    assert len(processes) == 2
    assert {number: len(where) for number, where in places.items()} == dict.fromkeys("012345", 1)


async def test_a_killed_process_leaves_nothing_in_the_books(
    start_workers: StartWorkers, pair: Router, connect: Connect
) -> None:
    slow = start_workers(1, "--ttft", "0.02", "--itl", "0.1")
    pair.configure(slow)
    client = connect(pair, limits=FRESH)
    tolds: list[Told] = []
    asking = []
    while len({decision["process"] for decision in pair.decisions(len(tolds) or 1)}) < 2:
        tolds.append(Told())
        asking.append(asyncio.create_task(stream(client, greedy(max_tokens=40), told=tolds[-1])))
        await eventually(lambda: tolds[-1].num_parts > 1, "it to run")
        assert len(tolds) < 40, "one process gets them all"
    victim = pair.decisions(1)[0]["process"]
    lost = sum(decision["process"] == victim for decision in pair.decisions(len(tolds)))
    pair.kill_process(victim)
    await eventually(
        lambda: in_flight(pair) == ({slow[0].url: len(tolds) - lost}), "the books to be right"
    )
    # The worker is left alone by those that are gone.
    await eventually(lambda: slow[0].num_running == len(tolds) - lost, "the worker to be told")
    # Another takes its place: whoever asks meanwhile waits, and nobody is refused.
    for _ in range(10):
        assert (await client.post(CHAT, json=chat_body(max_tokens=1))).status_code == 200
    until(lambda: len(pair.process_ids()) == 2, "a new process")
    await asyncio.gather(*asking)
    assert sum(told.is_whole for told in tolds) == len(tolds) - lost
    await eventually(lambda: in_flight(pair) == {}, "the books to be empty")
