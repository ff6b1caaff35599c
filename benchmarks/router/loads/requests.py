"""The requests of these loads, as bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

PATH = "/v1/chat/completions"
HELLO = ({"role": "user", "content": "hi"},)

Message = Mapping[str, str]


def chat_request(
    model: str,
    messages: Sequence[Message] = HELLO,
    *,
    max_tokens: int,
    stream: bool,
    headers: Mapping[str, str],
) -> bytes:
    """A greedy chat completion, head and body."""
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": max_tokens,
        "temperature": 0,
        "messages": list(messages),
    }
    if stream:
        body["stream"] = True
    return post(json.dumps(body).encode(), headers)


def post(body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def stream_text(body: bytes) -> tuple[str, bool]:
    """The text of a chat stream, and whether it ended with [DONE]. Events that are no chunks of
    text count for nothing."""
    pieces: list[str] = []
    done = False
    for event in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        data = event.removeprefix(b"data: ").strip()
        if data == b"[DONE]":
            done = True
        elif event.startswith(b"data: "):
            try:
                choices = json.loads(data).get("choices") or [{}]
            except ValueError:
                continue
            pieces.append(choices[0].get("delta", {}).get("content") or "")
    return "".join(pieces), done
