"""Conversations that share a system prompt: each turn sends all turns before it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..http_client import Client
from .requests import Message, chat_request, stream_text

ANSWER_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversations:
    """The workload; words have six hexadecimal digits."""

    num_sessions: int = 40
    num_turns: int = 8
    system_words: int = 150
    turn_words: int = 80
    answer_tokens: int = 16
    max_pause_s: float = 0.6
    """Before the first turn and after each."""
    seed: int = 7


@dataclass(slots=True)
class Prompt:
    """One request as it was sent, and what it was answered."""

    messages: list[Message]
    answer: str = ""


@dataclass(slots=True)
class ConversationsOutcome:
    """In the order in which requests were sent."""

    prompts: list[Prompt] = field(default_factory=list)
    ttfts_s: list[float] = field(default_factory=list)
    num_failed: int = 0


async def converse(
    ports: Sequence[int],
    workload: Conversations,
    *,
    model: str,
    headers: Mapping[str, str],
) -> ConversationsOutcome:
    """All conversations at once. Nothing in a request names its session but its text."""
    die = random.Random(workload.seed)
    system = _words(die, workload.system_words)
    turns = [
        [_words(die, workload.turn_words) for _ in range(workload.num_turns)]
        for _ in range(workload.num_sessions)
    ]
    pauses = [
        [die.uniform(0, workload.max_pause_s) for _ in range(workload.num_turns + 1)]
        for _ in range(workload.num_sessions)
    ]
    outcome = ConversationsOutcome()

    async def session(index: int) -> None:
        client = Client(ports[index % len(ports)])
        messages: list[Message] = [{"role": "system", "content": system}]
        await asyncio.sleep(pauses[index][0])
        for text, pause_s in zip(turns[index], pauses[index][1:], strict=True):
            messages.append({"role": "user", "content": text})
            prompt = Prompt(messages=list(messages))
            outcome.prompts.append(prompt)
            request = chat_request(
                model, messages, max_tokens=workload.answer_tokens, stream=True, headers=headers
            )
            answer = await client.ask(request, timeout_s=ANSWER_TIMEOUT_S)
            prompt.answer, done = stream_text(answer.body)
            if answer.ok and done:
                outcome.ttfts_s.append(answer.first_at - answer.sent_at)
            else:
                outcome.num_failed += 1
            messages.append({"role": "assistant", "content": prompt.answer})
            await asyncio.sleep(pause_s)
        client.close()

    async with asyncio.TaskGroup() as group:
        for index in range(workload.num_sessions):
            group.create_task(session(index))
    return outcome


def _words(die: random.Random, count: int) -> str:
    return " ".join(f"{die.getrandbits(24):06x}" for _ in range(count))
