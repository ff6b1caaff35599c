"""Bytes of answers: everything about a chunk but its word is written once per stream."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from shoal.engine.core.request import Request

from . import tokens

_WORDS = tuple(json.dumps(piece).encode() for piece in tokens.ANSWER_PIECES)
_PLACE = "@@"


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """How one answer is written, as chat or as completion."""

    request_id: str
    model: str
    is_chat: bool
    request: Request

    def usage(self, num_output_tokens: int) -> dict[str, Any]:
        request = self.request
        return {
            "prompt_tokens": request.num_prompt_tokens,
            "completion_tokens": num_output_tokens,
            "total_tokens": request.num_prompt_tokens + num_output_tokens,
            "prompt_tokens_details": {"cached_tokens": request.num_cached_tokens},
        }

    def whole(self, token_ids: Sequence[int], finish_reason: str) -> bytes:
        """The answer of a request that does not stream."""
        text = tokens.decode(token_ids)
        content: dict[str, Any] = (
            {"message": {"role": "assistant", "content": text}} if self.is_chat else {"text": text}
        )
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}
        body = self._object("chat.completion") | {
            "choices": [choice],
            "usage": self.usage(len(token_ids)),
        }
        return msgspec.json.encode(body)

    def opening(self) -> bytes:
        """The first chunk of a chat names the role, as vLLM's does."""
        if not self.is_chat:
            return b""
        return self._event([self._choice({"role": "assistant", "content": ""}, None)])

    def token_frame(self) -> tuple[bytes, bytes]:
        """What stands before and after the JSON of the word in a token's event."""
        content = {"content": _PLACE} if self.is_chat else _PLACE
        before, after = self._event([self._choice(content, None)]).split(f'"{_PLACE}"'.encode())
        return before, after

    def closing(self, finish_reason: str, num_output_tokens: int, *, with_usage: bool) -> bytes:
        """The reason of the end, the counts when they were asked for, and the mark of the end."""
        content: Any = {} if self.is_chat else ""
        parts = [self._event([self._choice(content, finish_reason)])]
        if with_usage:
            parts.append(self._event([], usage=self.usage(num_output_tokens)))
        return b"".join([*parts, b"data: [DONE]\n\n"])

    def _choice(self, content: Any, finish_reason: str | None) -> dict[str, Any]:
        key = "delta" if self.is_chat else "text"
        return {"index": 0, key: content, "logprobs": None, "finish_reason": finish_reason}

    def _object(self, chat_object: str) -> dict[str, Any]:
        return {
            "id": f"{'chatcmpl' if self.is_chat else 'cmpl'}-{self.request_id}",
            "object": chat_object if self.is_chat else "text_completion",
            "created": int(time.time()),
            "model": self.model,
        }

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        body = self._object("chat.completion.chunk") | {"choices": choices} | more
        return b"data: " + msgspec.json.encode(body) + b"\n\n"


def token_events(frame: tuple[bytes, bytes], token_ids: Sequence[int]) -> bytes:
    """An event a token."""
    before, after = frame
    return b"".join([before + _WORDS[token_id] + after for token_id in token_ids])
