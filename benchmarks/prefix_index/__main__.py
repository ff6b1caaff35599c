"""Time look-ups in full prefix indexes, and whole decisions, with 4 and with 1,000 endpoints.

    python -m shoal.benchmarks.prefix_index [--blocks 1000000] [--endpoints 1000]

Times are CPU time of this thread, so that other work on the machine counts little. The contents are
conversations: one of 100 system prompts of 4 chunks, then 16 chunks of their own; an endpoint has
as many as fit. A look-up is the next turn of one of them: all its chunks, and 4 that are new. In
the exact index a conversation is 256 blocks of 16 tokens, 64 of them shared.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from time import thread_time_ns
from typing import NamedTuple

from shoal.router.core.exact_index import ExactIndex
from shoal.router.core.policies import POLICY_NAMES, make_policy
from shoal.router.core.prefix_index import PrefixIndex
from shoal.router.core.ttft_model import TTFTModels
from shoal.router.core.types import (
    Endpoint,
    EndpointMetrics,
    EndpointState,
    EndpointStatus,
    RoutingRequest,
)

PAGE_BYTES = 4096
MODEL = "m"
NOW = 1000.0
TURNS = 2000
"""Look-ups and decisions timed, each on its own."""

Prompt = tuple[int, ...]


class Timing(NamedTuple):
    p50_us: float
    p99_us: float


def timing(calls: Sequence[Callable[[], object]]) -> Timing:
    """Each call once, after a tenth of them to warm up."""
    for call in calls[: len(calls) // 10]:
        call()
    times = []
    gc.disable()
    for call in calls:
        start = thread_time_ns()
        call()
        times.append(thread_time_ns() - start)
    gc.enable()
    times.sort()
    empty = median(_nothing() for _ in range(1000))
    return Timing(
        round((times[len(times) // 2] - empty) / 1e3, 2),
        round((times[len(times) * 99 // 100] - empty) / 1e3, 2),
    )


def _nothing() -> int:
    start = thread_time_ns()
    return thread_time_ns() - start


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def conversations(number: int, shared: int, own: int, random: Random) -> list[Prompt]:
    """Prompts that begin with one of 100 system prompts."""
    hash64 = random.getrandbits
    systems = [tuple(hash64(64) for _ in range(shared)) for _ in range(100)]
    return [(*random.choice(systems), *(hash64(64) for _ in range(own))) for _ in range(number)]


def fleet(number: int) -> list[EndpointState]:
    return [
        EndpointState(
            Endpoint(
                endpoint_id=f"http://10.0.{place // 256}.{place % 256}:8000",
                url=f"http://10.0.{place // 256}.{place % 256}:8000",
                models=frozenset({MODEL}),
            ),
            EndpointStatus.READY,
            in_flight=place * 7 % 5,
            in_flight_prefill_tokens=place * 11 % 3 * 500,
            metrics=EndpointMetrics(3, 0, 0.5, 1_000_000, NOW),
            ready_since=0.0,
        )
        for place in range(number)
    ]


def approximate(num_blocks: int, num_endpoints: int, random: Random) -> dict[str, float]:
    prompts = conversations(num_blocks // 20, 4, 16, random)
    states = fleet(num_endpoints)
    before = resident_bytes()
    index = PrefixIndex(max_blocks=num_blocks)
    start = thread_time_ns()
    for place, prompt in enumerate(prompts):
        index.record(states[place % num_endpoints].endpoint.endpoint_id, prompt)
    record_us = (thread_time_ns() - start) / 1e3 / len(prompts)
    held = resident_bytes() - before
    turns = [
        (*random.choice(prompts), *(random.getrandbits(64) for _ in range(4))) for _ in range(TURNS)
    ]
    lookup = timing([partial(index.look_up, turn) for turn in turns])
    long = [(*turn[:20], *(random.getrandbits(64) for _ in range(980))) for turn in turns[:200]]
    lookup_long = timing([partial(index.look_up, turn) for turn in long])
    return {
        "blocks": index.num_blocks,
        "record_us_20_chunks": round(record_us, 2),
        "lookup_us_p50": lookup.p50_us,
        "lookup_us_p99": lookup.p99_us,
        "lookup_us_p50_1000_chunks": lookup_long.p50_us,
        "bytes_per_block": round(held / index.num_blocks),
    }


def exact(num_blocks: int, num_endpoints: int, random: Random) -> dict[str, float]:
    prompts = conversations(num_blocks // 256, 64, 192, random)
    names = [state.endpoint.endpoint_id for state in fleet(num_endpoints)]
    before = resident_bytes()
    index = ExactIndex(max_blocks=num_blocks)
    for name in names:
        index.register(name, 16)
    for place, prompt in enumerate(prompts):
        index.store(names[place % num_endpoints], prompt)
    held = resident_bytes() - before
    turns = [
        (*random.choice(prompts), *(random.getrandbits(64) for _ in range(32)))
        for _ in range(TURNS)
    ]
    lookup = timing([partial(index.matched, turn, NOW) for turn in turns])
    return {
        "exact_lookup_us_p50_256_blocks": lookup.p50_us,
        "exact_lookup_us_p99_256_blocks": lookup.p99_us,
        "exact_bytes_per_block": round(held / index.num_blocks),
    }


def decisions(policy: str, num_endpoints: int, random: Random) -> Timing:
    """Requests of 200 conversations, recorded and learnt from as the data plane does."""
    states = fleet(num_endpoints)
    index, ttft = PrefixIndex(), TTFTModels()
    routing = make_policy(
        policy, index=index, exact_index=ExactIndex(), ttft=ttft, rng=random, slow_start_s=5.0
    )
    prompts = conversations(200, 4, 16, random)
    requests = [
        RoutingRequest(MODEL, 1400, prompt, session_id=f"session {place}")
        for place, prompt in enumerate(prompts)
    ]
    for request in requests * (2 if num_endpoints > 100 else 10):
        decision = routing.decide(request, states, NOW)
        assert decision.endpoint is not None
        chosen = decision.endpoint.endpoint_id
        index.record(chosen, request.prefix_hashes)
        ttft.observe(chosen, 0.2, uncached_tokens=400, tokens_ahead=100, num_running=2, now=NOW)
    number = 200 if num_endpoints > 100 else TURNS
    return timing(
        [
            partial(routing.decide, request, states, NOW)
            for request in random.choices(requests, k=number)
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m shoal.benchmarks.prefix_index")
    parser.add_argument("--blocks", type=int, default=1_000_000, help="in each index")
    parser.add_argument("--endpoints", type=int, default=1000)
    options = parser.parse_args()
    random = Random(1)
    figures: dict[str, float] = {
        **approximate(options.blocks, options.endpoints, random),
        **exact(options.blocks, options.endpoints, random),
    }
    print(f"{'policy':14}{'4 endpoints':>14}{options.endpoints:>8} endpoints   (us, p50)")
    for policy in POLICY_NAMES:
        few = decisions(policy, 4, random)
        many = decisions(policy, options.endpoints, random)
        print(f"{policy:14}{few.p50_us:14.1f}{many.p50_us:18.1f}")
        if policy == "cost":
            figures["decide_us_4"] = few.p50_us
            figures["decide_us_1000"] = many.p50_us
        else:
            figures[f"decide_us_4_{policy}"] = few.p50_us
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
