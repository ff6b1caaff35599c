"""Cuts a stream, resumes it elsewhere, and reads what the client got: a data plane in 50 lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from shoal.router.core.types import EngineKind
from shoal.router.failover.preparation import Mode, Preparation, prepare
from shoal.router.failover.recorder import Recorder
from shoal.router.failover.resume import Resume
from shoal.router.request_fields import decode_fields

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


def prepared(
    path: str, body: dict[str, Any], engine: EngineKind = EngineKind.SHOAL, mode: Mode = "exact"
) -> Preparation:
    raw = msgspec.json.encode({"stream": True, **body})
    return prepare(path, raw, decode_fields(raw), engine=engine, mode=mode)


async def upstream(client: httpx.AsyncClient, preparation: Preparation) -> bytes:
    """All bytes of the stream that nobody cuts."""
    response = await client.post(preparation.path, content=preparation.body)
    assert response.status_code == 200, response.text
    return response.content


def recorder_of(preparation: Preparation, max_recorded_bytes: int = 1 << 20) -> Recorder:
    return Recorder(preparation, max_recorded_bytes=max_recorded_bytes)


async def resumed(
    client: httpx.AsyncClient,
    preparation: Preparation,
    recorder: Recorder,
    *,
    engine: EngineKind = EngineKind.SHOAL,
    cut: int | None = None,
    piece: int = 0,
) -> tuple[bytes, Resume]:
    """What the client gets after the first worker's death.

    `cut`: the next worker dies after so many bytes. `piece`: bytes given at a time.
    """
    resume = Resume(preparation, recorder, engine=engine)
    out = [resume.take()]
    for _ in range(30):
        call = resume.next_call()
        if call is None:
            return b"".join(out), resume
        response = await client.request(call.method, call.path, content=call.body)
        if not call.streams:
            resume.answer(response.status_code, response.content)
            out.append(resume.take())
            continue
        assert response.status_code == 200, response.text
        data = response.content[:cut]
        step = piece or max(len(data), 1)
        out += [resume.feed(data[i : i + step]) for i in range(0, len(data), step)]
        return b"".join(out), resume
    raise AssertionError("it asks and asks")


@dataclass
class Told:
    """A stream as a client reads it."""

    ids: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)
    objects: set[str] = field(default_factory=set)
    created: set[int] = field(default_factory=set)
    text: str = ""
    roles: list[str] = field(default_factory=list)
    finish_reasons: list[str] = field(default_factory=list)
    usages: list[dict[str, Any]] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    prompt_token_ids: list[list[int]] = field(default_factory=list)
    logprob_tokens: list[str] = field(default_factory=list)
    num_done: int = 0

    def comparable(self) -> tuple[Any, ...]:
        """All that must be the same however often the stream was cut."""
        return (
            self.text, self.roles, self.finish_reasons, self.token_ids,
            self.prompt_token_ids, self.logprob_tokens, self.num_done,
            [(u["prompt_tokens"], u["completion_tokens"], u["total_tokens"]) for u in self.usages],
        )  # fmt: skip


def read(stream: bytes) -> Told:
    """Reads whole events; fails on anything else."""
    told = Told()
    *parts, rest = stream.split(b"\n\n")
    assert rest == b"", rest
    for part in parts:
        assert part.startswith(b"data: "), part
        data = part.removeprefix(b"data: ")
        assert told.num_done == 0, "an event after the end"
        if data == b"[DONE]":
            told.num_done += 1
            continue
        _add(told, msgspec.json.decode(data))
    return told


def _add(told: Told, event: dict[str, Any]) -> None:
    assert "error" not in event, event
    told.ids.add(event["id"])
    told.models.add(event["model"])
    told.objects.add(event["object"])
    told.created.add(event["created"])
    if event.get("prompt_token_ids"):
        told.prompt_token_ids.append(event["prompt_token_ids"])
    if not event["choices"]:
        told.usages.append(event["usage"])
        return
    (choice,) = event["choices"]
    delta = choice.get("delta", {})
    told.text += choice.get("text") or delta.get("content") or ""
    told.token_ids += choice.get("token_ids") or []
    if choice.get("prompt_token_ids"):
        told.prompt_token_ids.append(choice["prompt_token_ids"])
    if "role" in delta:
        told.roles.append(delta["role"])
    logprobs = choice.get("logprobs") or {}
    told.logprob_tokens += [entry["token"] for entry in logprobs.get("content", [])]
    told.logprob_tokens += logprobs.get("tokens", [])
    if choice["finish_reason"]:
        told.finish_reasons.append(choice["finish_reason"])


def cuts_of(stream: bytes) -> list[int]:
    """After each event, and inside the next one; the last is the whole stream without its end."""
    cuts, at = [], 0
    while (end := stream.find(b"\n\n", at)) >= 0:
        cuts += [end + 2, end + 12]
        at = end + 2
    return [cut for cut in cuts if cut < len(stream)]
