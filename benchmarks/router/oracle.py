"""The bound that no router can pass: all workers' caches are one, and nothing is ever evicted.

It is computed from the prompts as they were sent, in their order, by the workers' own rules. An
oracle that knows every cache but has four of limited size stays below it; so a ratio to this bound
is a lower bound of the ratio to any oracle.
"""

from __future__ import annotations

from collections.abc import Sequence

from shoal.benchmarks.fake_worker import tokens
from shoal.benchmarks.fake_worker.engine import FakeEngine, FakeEngineConfig

from .loads.conversations import Prompt

MOCK_BLOCK_CHARS = 64
ENOUGH_BLOCKS = 1_000_000


def mock_bound(prompts: Sequence[Prompt]) -> float:
    """Highest hit rate with mock workers: blocks of 64 characters of the messages' contents."""
    known: set[str] = set()
    num_queried = num_hit = 0
    for prompt in prompts:
        text = "".join(f"{message['content']}\n" for message in prompt.messages)
        ends = range(MOCK_BLOCK_CHARS, len(text) + 1, MOCK_BLOCK_CHARS)
        blocks = [text[:end] for end in ends]
        num_queried += len(blocks)
        num_hit += sum(block in known for block in blocks)
        known.update(blocks)
    return num_hit / num_queried


def fake_bound(prompts: Sequence[Prompt], *, answer_tokens: int) -> float:
    """Highest hit rate with fake workers: one of them, replayed offline with endless memory."""
    engine = FakeEngine(FakeEngineConfig(num_blocks=ENOUGH_BLOCKS))
    now = 0.0
    for number, prompt in enumerate(prompts):
        messages = [(message["role"], message["content"]) for message in prompt.messages]
        ids = tokens.encode(tokens.render_chat(messages))
        engine.add(str(number), ids, max_tokens=answer_tokens, now=now)
        while engine.next_due is not None:
            now = engine.next_due
            engine.emit(now)
    stats = engine.stats()
    return stats.prefix_cache_hits / stats.prefix_cache_queries


def greedy_answer(messages: Sequence[tuple[str, str]], *, num_tokens: int, seed: int) -> str:
    """What a fake worker answers, whoever asks and whenever."""
    state = tokens.digest(tokens.encode(tokens.render_chat(messages)), seed)
    answer: list[int] = []
    for _ in range(num_tokens):
        answer.append(tokens.next_token(state))
        state = tokens.extend(state, answer[-1])
    return tokens.decode(answer)
