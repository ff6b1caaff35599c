"""Asking a router as clients do, and reading what they are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.router.e2e.processes import PATIENCE_S
from tests.router.e2e.workers import MODEL

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


def chat_body(text: str = "Say something.", **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}


def greedy(text: str = "Say something.", *, max_tokens: int = 8, **fields: Any) -> dict[str, Any]:
    """A greedy chat, streamed, with usage: the same answer every time."""
    return chat_body(
        text,
        max_tokens=max_tokens,
        temperature=0,
        stream=True,
        **{"stream_options": {"include_usage": True}, **fields},
    )


async def eventually(look: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Wait until it is so while other tasks go on; fails with `what` when it is not in time."""
    try:
        async with asyncio.timeout(timeout_s):
            while not look():  # noqa: ASYNC110 - other processes set no Event
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited {timeout_s:g} s in vain for {what}") from None


@dataclass
class Told:
    """What a client was told by a stream."""

    status: int = 0
    raw: bytes = b""
    num_parts: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    num_done: int = 0
    is_broken: bool = False
    """The connection ended within the answer."""

    @property
    def text(self) -> str:
        parts = []
        for event in self.events:
            for choice in event.get("choices", ()):
                parts.append(choice.get("text") or choice.get("delta", {}).get("content") or "")
        return "".join(parts)

    @property
    def ids(self) -> set[str]:
        return {event["id"] for event in self.events if "id" in event}

    @property
    def roles(self) -> list[str]:
        choices = [choice for event in self.events for choice in event.get("choices", ())]
        return [role for c in choices if (role := c.get("delta", {}).get("role")) is not None]

    @property
    def finish_reasons(self) -> list[str]:
        choices = [choice for event in self.events for choice in event.get("choices", ())]
        return [reason for c in choices if (reason := c.get("finish_reason")) is not None]

    @property
    def usages(self) -> list[dict[str, Any]]:
        return [usage for event in self.events if (usage := event.get("usage")) is not None]

    @property
    def error(self) -> dict[str, Any] | None:
        return next((event["error"] for event in self.events if "error" in event), None)

    @property
    def is_whole(self) -> bool:
        """One stream, from its role to its end."""
        return (
            self.status == 200
            and not self.is_broken
            and self.num_done == 1
            and self.raw.endswith(b"data: [DONE]\n\n")
            and self.error is None
            and len(self.ids) == 1
            and len(self.finish_reasons) == 1
        )


async def stream(
    client: httpx.AsyncClient,
    body: dict[str, Any],
    path: str = CHAT,
    *,
    told: Told | None = None,
    **options: Any,
) -> Told:
    """One streamed request to its end, however it ends; `told` can be watched meanwhile."""
    told = told or Told()
    try:
        async with client.stream("POST", path, json=body, **options) as response:
            told.status = response.status_code
            async for part in response.aiter_raw():
                told.raw += part
                told.num_parts += 1
    except httpx.RemoteProtocolError:
        told.is_broken = True
    for line in told.raw.split(b"\n\n"):
        if line == b"data: [DONE]":
            told.num_done += 1
        elif line.startswith(b"data: "):
            told.events.append(json.loads(line[6:]))
    return told
