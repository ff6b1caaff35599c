"""A long prompt arrives while answers are being written: how long do these stand still?"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import msgspec

from shoal.benchmarks.client.answer import Answer
from shoal.benchmarks.client.http import HTTPClient
from shoal.benchmarks.measure.statistics import distribution

from .prompts import random_ids
from .running import PeerFailed
from .standard_set import LongPromptCase

TIMEOUT_S = 600.0
POLL_S = 0.005
SETTLE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """When one answer's tokens came, on one clock."""

    sent_s: float
    arrivals_s: Sequence[float]


def figures_of(decodes: Sequence[Stream], long: Stream) -> dict[str, float]:
    """Gaps between the decodes' tokens before the long prompt, and while it was worked on.

    A gap counts as during it when it overlaps the time from sending it to its first token. With
    eight decodes there are few such gaps, so their p99 is near the worst of them.
    """
    long_first_s = long.arrivals_s[0]
    calm: list[float] = []
    during: list[float] = []
    for decode in decodes:
        for earlier_s, later_s in pairwise(decode.arrivals_s):
            if later_s < long.sent_s:
                calm.append(later_s - earlier_s)
            elif earlier_s < long_first_s:
                during.append(later_s - earlier_s)
    named = {
        "long_ttft_s": long_first_s - long.sent_s,
        "calm_itl_p50_s": distribution(calm).p50,
        "calm_itl_p99_s": distribution(calm).p99,
        "during_itl_p50_s": distribution(during).p50,
        "during_itl_p99_s": distribution(during).p99,
        "during_itl_max_s": distribution(during).max,
        "gaps_during": float(len(during)),
    }
    return {name: value for name, value in named.items() if value is not None}


async def measure_long_prompt(
    url: str, model: str, case: LongPromptCase, *, seed: int
) -> dict[str, float]:
    """Figures of one run. Raises PeerFailed when a request fails or a decode ends too early."""
    rng = random.Random(seed)
    client = HTTPClient(url, {})
    decodes = [Answer() for _ in range(case.num_decodes)]
    long = Answer()

    async def send(answer: Answer, num_input: int, num_output: int) -> None:
        body = {
            "model": model, "prompt": random_ids(rng, num_input), "max_tokens": num_output,
            "temperature": 0, "ignore_eos": True, "stream": True,
            "stream_options": {"include_usage": True},
        }  # fmt: skip
        content = msgspec.json.encode(body)
        await client.post("/v1/completions", content, answer, request_id=f"long-{id(answer)}")
        if answer.error is not None:
            raise PeerFailed(f"a request failed ({answer.error}): {answer.detail}")

    async def send_all() -> None:
        async with asyncio.TaskGroup() as group:
            for decode in decodes:
                group.create_task(send(decode, case.input_tokens, case.output_tokens))
            # An answer has no event per token, so its count is polled.
            while min(decode.num_chunks for decode in decodes) < case.chunks_before:  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
            await asyncio.sleep(SETTLE_S)
            await send(long, case.long_input_tokens, case.long_output_tokens)

    try:
        async with asyncio.timeout(TIMEOUT_S):
            await send_all()
    except TimeoutError:
        raise PeerFailed(f"not done after {TIMEOUT_S:.0f} s") from None
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    finally:
        client.close()
    return figures_of([_stream(decode) for decode in decodes], _stream(long))


def _stream(answer: Answer) -> Stream:
    if answer.sent_s is None or answer.first_s is None:
        raise PeerFailed("an answer without tokens")
    return Stream(
        sent_s=answer.sent_s, arrivals_s=list(accumulate(answer.gaps, initial=answer.first_s))
    )
