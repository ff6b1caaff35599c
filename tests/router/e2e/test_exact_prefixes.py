"""Workers that tell what their prefix caches hold: sessions go where their blocks are."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.ports import free_port
from tests.router.e2e.asking import CHAT, chat_body, eventually
from tests.router.e2e.conftest import Connect, StartWorkers
from tests.router.e2e.routers import Router
from tests.router.e2e.workers import FAST, FakeWorker

EXACT = {"routing": {"policy": "prefix_exact", "slow_start_s": 0}}
BLOCK = 16


def publishing(start_workers: StartWorkers, count: int) -> list[FakeWorker]:
    """Workers with KV events, each on ports of its own."""
    return [
        start_workers(
            1, *FAST,
            "--kv-events-endpoint", f"tcp://127.0.0.1:{free_port()}",
            "--kv-events-replay-endpoint", f"tcp://127.0.0.1:{free_port()}",
        )[0]
        for _ in range(count)
    ]  # fmt: skip


class Session:
    """A conversation that grows, and where its turns went."""

    def __init__(self, client: httpx.AsyncClient, name: str) -> None:
        self._client = client
        self.name = name
        self._messages: list[dict[str, Any]] = [
            {"role": "system", "content": "Be as brief as you can be. " * 20},  # all have this one
            # Long enough that nobody moves it for the sake of balance.
            {"role": "user", "content": f"{name} " * 800},
        ]
        self.num_turns = 0
        self.usage: dict[str, Any] = {}

    async def turn(self) -> None:
        self.num_turns += 1
        answer = await self._client.post(
            CHAT,
            json={**chat_body(max_tokens=8), "messages": self._messages},
            headers={"x-request-id": f"{self.name}-{self.num_turns}"},
        )
        assert answer.status_code == 200, answer.text
        told = answer.json()
        self.usage = told["usage"]
        self._messages += [
            told["choices"][0]["message"],
            {"role": "user", "content": f"{self.name} {self.num_turns} " * 20},
        ]

    @property
    def num_cached(self) -> int:
        """As the worker counted, of the last turn."""
        cached: int = self.usage["prompt_tokens_details"]["cached_tokens"]
        return cached


def decisions_of(router: Router, session: Session) -> list[dict[str, Any]]:
    """The oldest first."""
    found = [
        decision
        for decision in router.decisions(200)
        if decision["request_id"].startswith(f"{session.name}-")
    ]
    return found[::-1]


@pytest.mark.parametrize("kind", ["router", "pair"])
async def test_sessions_go_where_their_blocks_are(
    start_workers: StartWorkers, request: pytest.FixtureRequest, connect: Connect, kind: str
) -> None:
    router: Router = request.getfixturevalue(kind)
    workers = publishing(start_workers, 3)
    router.configure(workers, EXACT)
    await eventually(
        lambda: all(e["kv_block_size"] == BLOCK for e in router.endpoints().values()), "events"
    )
    client = connect(router)
    sessions = [Session(client, f"session{i}") for i in range(6)]
    for _ in range(4):
        await asyncio.gather(*(session.turn() for session in sessions))
        await asyncio.to_thread(router.wait_blocks)
    for session in sessions:
        decisions = decisions_of(router, session)
        assert len({decision["endpoint"] for decision in decisions}) == 1, decisions
        # What the router expects is what the worker finds, to the token.
        assert decisions[-1]["num_cached_tokens"] == session.num_cached > 0
        assert session.num_cached > session.usage["prompt_tokens"] - 60 - BLOCK
    places = {decisions_of(router, session)[0]["endpoint"] for session in sessions}
    assert len(places) > 1, "the common system prompt has drawn all to one worker"


async def test_a_worker_that_lost_its_cache_is_known_to_have(
    start_workers: StartWorkers, router: Router, connect: Connect
) -> None:
    workers = publishing(start_workers, 2)
    router.configure(workers, EXACT)
    client = connect(router)
    session = Session(client, "loser")
    await session.turn()
    await asyncio.to_thread(router.wait_blocks)
    await session.turn()
    home = decisions_of(router, session)[-1]["endpoint"]
    assert decisions_of(router, session)[-1]["num_cached_tokens"] == session.num_cached > 0
    [worker] = [worker for worker in workers if worker.url == home]
    before = router.endpoints()[home]["instance"]
    await asyncio.to_thread(worker.start_again)
    await eventually(
        lambda: router.endpoints()[home]["instance"] != before, "the new process to be noticed"
    )
    await asyncio.to_thread(router.wait_status, worker, "ready")
    await session.turn()
    decision = decisions_of(router, session)[-1]
    assert decision["num_cached_tokens"] == session.num_cached == 0
    # And learns again.
    await asyncio.to_thread(router.wait_blocks)
    await session.turn()
    decision = decisions_of(router, session)[-1]
    assert decision["num_cached_tokens"] == session.num_cached > 0


async def test_what_others_computed_there_is_known(
    start_workers: StartWorkers, router: Router, connect: Connect
) -> None:
    """Blocks that came from elsewhere than this router."""
    workers = publishing(start_workers, 2)
    router.configure(workers, EXACT)
    for worker in workers:
        async with httpx.AsyncClient(base_url=worker.url, verify=False) as direct:
            await Session(direct, f"stranger{workers.index(worker)}").turn()
    await asyncio.to_thread(router.wait_blocks, num_workers=2)
    client = connect(router)
    for place, worker in enumerate(workers):
        session = Session(client, f"stranger{place}")
        await session.turn()
        [decision] = decisions_of(router, session)
        assert decision["endpoint"] == worker.url
        assert decision["num_cached_tokens"] == session.num_cached > 0
