"""A closed-loop streaming client: so many requests in flight, output tokens per second.

The load-test harness proper is a later part of Shoal; this is the one workload that the first
speed check needs. Prompts are exact in tokens: they are sent as random token ids.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass
from statistics import median

import httpx


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    output_tokens_per_s: float
    ttft_p50_s: float
    itl_p50_s: float
    num_requests: int


async def run(
    url: str,
    model: str,
    *,
    concurrency: int,
    num_requests: int,
    prompt_tokens: int = 128,
    max_tokens: int = 128,
    seed: int = 0,
) -> LoadResult:
    """Greedy, streamed, end-of-sequence ignored. Raises RuntimeError when a request fails."""
    rng = random.Random(seed)
    prompts = [[rng.randrange(1_000, 40_000) for _ in range(prompt_tokens)]
               for _ in range(num_requests)]  # fmt: skip
    ttfts: list[float] = []
    gaps: list[float] = []
    num_output = 0
    limits = httpx.Limits(max_connections=concurrency)

    async def one(client: httpx.AsyncClient, prompt: list[int]) -> None:
        nonlocal num_output
        body = {
            "model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0,
            "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
        last = time.perf_counter()
        first = True
        async with client.stream("POST", f"{url}/v1/completions", json=body) as response:
            if response.status_code != 200:
                raise RuntimeError(f"{response.status_code}: {await response.aread()!r}")
            async for line in response.aiter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                now = time.perf_counter()
                chunk = json.loads(line[6:])
                if chunk.get("usage"):
                    num_output += chunk["usage"]["completion_tokens"]
                if chunk["choices"]:
                    (ttfts if first else gaps).append(now - last)
                    first, last = False, now

    async def worker(client: httpx.AsyncClient) -> None:
        while prompts:
            await one(client, prompts.pop())

    async with httpx.AsyncClient(limits=limits, timeout=600) as client:
        start = time.perf_counter()
        await asyncio.gather(*(worker(client) for _ in range(concurrency)))
        elapsed = time.perf_counter() - start
    if num_output != num_requests * max_tokens:
        raise RuntimeError(f"{num_output} output tokens instead of {num_requests * max_tokens}")
    return LoadResult(
        output_tokens_per_s=num_output / elapsed,
        ttft_p50_s=median(ttfts),
        itl_p50_s=median(gaps),
        num_requests=num_requests,
    )
