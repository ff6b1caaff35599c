"""A fleet in virtual time: sessions talk to routers, routers choose among workers with real caches.

Workers are as in the peers' measurement: prompts are cut into blocks of 64 characters, cached least
recently used; a first token costs a constant and the missing blocks, one prompt after the other;
then the answer, with as many others as there are. Routers know their own requests at once, those of
the other routers a little later.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from shoal.router.core.exact_index import ExactIndex
from shoal.router.core.policies import make_policy
from shoal.router.core.prefix_index import PrefixIndex
from shoal.router.core.ttft_model import TTFTModels
from shoal.router.core.types import (
    Endpoint,
    EndpointMetrics,
    EndpointState,
    EndpointStatus,
    RoutingRequest,
)
from shoal.router.prefix_hash import CHUNK_BYTES, TOKENS_PER_CHUNK, chunk_hashes
from tests.router.core.endpoints import changed

BLOCK_CHARS = 64
CHARS_PER_TOKEN = 4
MODEL = "m"


class Heap:
    """What happens when; events at one time in the order they were planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def after(self, delay_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay_s, next(self._numbers), event))

    def run(self) -> None:
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            event()


@dataclass
class Worker:
    name: str
    num_blocks: int = 900
    base_s: float = 0.01
    block_s: float = 0.001
    """Prefill of one block that is not cached."""
    token_s: float = 0.002
    """One token of an answer, alone; a tenth more for each request beside it."""
    cache: OrderedDict[int, None] = field(default_factory=OrderedDict)
    busy_until: float = 0.0
    num_running: int = 0
    num_requests: int = 0
    num_hit_blocks: int = 0
    num_blocks_asked: int = 0
    stored: list[int] = field(default_factory=list)
    """Blocks of the last prompt that are new, and those that had to go for them."""
    removed: list[int] = field(default_factory=list)

    def prefill(self, prompt: bytes, now: float) -> float:
        """Serve a prompt; returns when its first token comes."""
        hashes = prompt_blocks(prompt)
        depth = 0
        while depth < len(hashes) and hashes[depth] in self.cache:
            depth += 1
        self.stored = [block for block in hashes if block not in self.cache]
        for block in reversed(hashes):  # the end of a prompt goes first
            self.cache[block] = None
            self.cache.move_to_end(block)
        excess = max(0, len(self.cache) - self.num_blocks)
        self.removed = [self.cache.popitem(last=False)[0] for _ in range(excess)]
        self.num_requests += 1
        self.num_hit_blocks += depth
        self.num_blocks_asked += len(hashes)
        self.busy_until = max(now, self.busy_until) + self.block_s * (len(hashes) - depth)
        return self.busy_until + self.base_s

    def answer_s(self, num_tokens: int) -> float:
        return num_tokens * self.token_s * (1 + 0.1 * self.num_running)


def prompt_blocks(prompt: bytes) -> list[int]:
    hashes = []
    parent = 0
    for start in range(0, len(prompt) - BLOCK_CHARS + 1, BLOCK_CHARS):
        parent = hash((parent, prompt[start : start + BLOCK_CHARS]))
        hashes.append(parent)
    return hashes


class Router:
    """One router process: policy, indexes, and what it believes is in flight."""

    def __init__(
        self, policy: str, workers: dict[str, Worker], heap: Heap, *, seed: int, exact: bool
    ) -> None:
        self.heap = heap
        self.workers = workers
        self.peers: list[Router] = []
        self.peer_delay_s = 0.05
        self.event_delay_s = 0.02
        self.ttfts: list[float] = []
        self.index = PrefixIndex()
        self.exact = ExactIndex()
        self.ttft = TTFTModels()
        self.policy = make_policy(
            policy,
            index=self.index,
            exact_index=self.exact,
            ttft=self.ttft,
            rng=Random(seed),
            slow_start_s=5.0,
        )
        self.states: dict[str, EndpointState] = {}
        for worker in workers.values():
            self.index.set_capacity(worker.name, worker.num_blocks * BLOCK_CHARS // CHUNK_BYTES)
            if exact:
                self.exact.register(worker.name, BLOCK_CHARS // CHARS_PER_TOKEN)
            self.states[worker.name] = EndpointState(
                Endpoint(endpoint_id=worker.name, url=worker.name, models=frozenset({MODEL})),
                EndpointStatus.READY,
                metrics=EndpointMetrics(scraped_at=0.0),
            )

    def send(
        self, prompt: bytes, num_tokens: int, done: Callable[[], None], session_id: str
    ) -> None:
        """Route a prompt, and say when its answer has ended."""
        now = self.heap.now
        exact = bool(self.exact.block_sizes)
        request = RoutingRequest(
            MODEL,
            len(prompt) // CHARS_PER_TOKEN,
            chunk_hashes(prompt, 0),
            TOKENS_PER_CHUNK,
            session_id,
            block_hashes=tuple(prompt_blocks(prompt)) if exact else (),
            block_size=BLOCK_CHARS // CHARS_PER_TOKEN if exact else 0,
        )
        decision = self.policy.decide(request, list(self.states.values()), now)
        assert decision.endpoint is not None
        name = decision.endpoint.endpoint_id
        before = self.states[name]
        uncached = request.num_prompt_tokens - decision.num_cached_tokens
        self.index.record(name, request.prefix_hashes)
        self.exact.expect(name, request.block_hashes, now)
        self.change(name, requests=1, tokens=uncached)
        for peer in self.peers:
            self.heap.after(
                self.peer_delay_s,
                functools.partial(peer.heard, name, request.prefix_hashes, uncached),
            )
        worker = self.workers[name]
        first_at = worker.prefill(prompt, now)
        self.ttfts.append(first_at - now)
        worker.num_running += 1
        for router in (self, *self.peers):
            self.heap.after(
                self.event_delay_s,
                functools.partial(router.cache_changed, name, worker.stored, worker.removed),
            )

        def first_token() -> None:
            self.tell(name, tokens=-uncached)
            self.ttft.observe(
                name,
                self.heap.now - now,
                uncached_tokens=uncached,
                tokens_ahead=before.in_flight_prefill_tokens,
                num_running=before.in_flight,
                now=self.heap.now,
            )
            self.heap.after(worker.answer_s(num_tokens), end)

        def end() -> None:
            worker.num_running -= 1
            self.tell(name, requests=-1)
            self.ttft.finished(name, self.heap.now - now)
            done()

        self.heap.after(first_at - now, first_token)

    def heard(self, name: str, hashes: tuple[int, ...], uncached: int) -> None:
        """Another router has sent a request."""
        self.index.record(name, hashes)
        self.change(name, requests=1, tokens=uncached)

    def cache_changed(self, name: str, stored: list[int], removed: list[int]) -> None:
        """A KV event."""
        self.exact.remove(name, removed)
        self.exact.store(name, stored)

    def tell(self, name: str, *, requests: int = 0, tokens: int = 0) -> None:
        """Something has ended: here at once, elsewhere later."""
        self.change(name, requests=requests, tokens=tokens)
        for peer in self.peers:
            self.heap.after(
                self.peer_delay_s,
                functools.partial(peer.change, name, requests=requests, tokens=tokens),
            )

    def change(self, name: str, *, requests: int, tokens: int) -> None:
        state = self.states[name]
        self.states[name] = changed(
            state,
            in_flight=state.in_flight + requests,
            in_flight_prefill_tokens=state.in_flight_prefill_tokens + tokens,
        )


@dataclass
class Fleet:
    """All of it."""

    policy: str
    workers: list[Worker]
    num_routers: int = 1
    exact: bool = False
    seed: int = 7

    def __post_init__(self) -> None:
        self.heap = Heap()
        self.random = Random(self.seed)
        by_name = {worker.name: worker for worker in self.workers}
        self.routers = [
            Router(self.policy, by_name, self.heap, seed=self.seed + number, exact=self.exact)
            for number in range(self.num_routers)
        ]
        for router in self.routers:
            router.peers = [peer for peer in self.routers if peer is not router]

    def words(self, number: int) -> str:
        return " ".join(f"{self.random.getrandbits(24):06x}" for _ in range(number))

    def talk(
        self,
        *,
        num_sessions: int = 40,
        num_turns: int = 8,
        system_words: int = 150,
        turn_words: int = 80,
        think_s: float = 1.0,
        at_once: bool = False,
    ) -> None:
        """Sessions of several turns that share a system prompt.

        `at_once`: they all speak at the same moment, again and again.
        """
        system = self.words(system_words)
        for number in range(num_sessions):
            messages = [{"role": "system", "content": system}] if system else []
            turns = iter([self.words(turn_words) for _ in range(num_turns)])
            self._session(f"session {number}", messages, turns, think_s, at_once=at_once)
        self.heap.run()

    def _session(
        self,
        session_id: str,
        messages: list[dict[str, str]],
        turns: Iterator[str],
        think_s: float,
        *,
        at_once: bool,
    ) -> None:
        def speak() -> None:
            words = next(turns, None)
            if words is None:
                return
            messages.append({"role": "user", "content": words})
            prompt = json.dumps(messages)[:-1].encode()  # the next turn goes on from here
            self.random.choice(self.routers).send(prompt, 16, answered, session_id)

        def answered() -> None:
            messages.append(
                {"role": "assistant", "content": "".join(f" tok{i}" for i in range(16))}
            )
            pause()

        def pause() -> None:
            if at_once:
                wait_s = think_s - self.heap.now % think_s
            else:
                wait_s = self.random.random() * think_s
            self.heap.after(wait_s, speak)

        pause()

    @property
    def hit_rate(self) -> float:
        return sum(worker.num_hit_blocks for worker in self.workers) / sum(
            worker.num_blocks_asked for worker in self.workers
        )

    @property
    def mean_ttft_s(self) -> float:
        """From the router's decision to the first token."""
        ttfts = [ttft_s for router in self.routers for ttft_s in router.ttfts]
        return sum(ttfts) / len(ttfts)

    @property
    def shares(self) -> list[float]:
        """Share of the requests of each worker."""
        total = sum(worker.num_requests for worker in self.workers)
        return [worker.num_requests / total for worker in self.workers]


def main() -> None:
    """The table of docs/routing.md: python -m tests.router.core.simulated_fleet (two minutes)."""
    cases: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "in turn": ({}, {}),
        "all at once": ({"at_once": True}, {}),
        "two routers": ({}, {"num_routers": 2}),
        "two routers, at once": ({"at_once": True}, {"num_routers": 2}),
        "two of four slow": ({}, {"slow": 2}),
    }
    for policy in ("cost", "prefix", "prefix_exact", "session", "least_loaded"):
        for case, (talk, options) in cases.items():
            slow: dict[str, Any] = {"base_s": 0.02, "block_s": 0.002, "token_s": 0.004}
            num_slow = options.get("slow", 0)
            fleets = []
            for seed in range(20):
                workers = [Worker(f"w{n}", **(slow if n < num_slow else {})) for n in range(4)]
                fleet = Fleet(
                    policy,
                    workers,
                    num_routers=options.get("num_routers", 1),
                    exact=policy == "prefix_exact",
                    seed=seed,
                )
                fleet.talk(**talk)
                fleets.append(fleet)
            hits = [fleet.hit_rate for fleet in fleets]
            most = max(max(fleet.shares) for fleet in fleets)
            ttft_s = sum(fleet.mean_ttft_s for fleet in fleets) / len(fleets)
            print(
                f"{policy:13}{case:21} hit rate {sum(hits) / len(hits):.3f}"
                f" (lowest {min(hits):.3f}),"
                f" most on one {most:.2f}, mean TTFT {ttft_s * 1e3:.1f} ms"
            )


if __name__ == "__main__":
    main()
