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
_IDS_PLACE = "@ids@"


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """How one answer is written, as chat or as completion."""

    request_id: str
    model: str
    is_chat: bool
    request: Request
    with_token_ids: bool = False
    """`return_token_ids`: in vLLM's places."""

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
        if self.with_token_ids:
            choice["token_ids"] = list(token_ids)
            holder = body if self.is_chat else choice
            holder["prompt_token_ids"] = self.request.prompt_token_ids
        return msgspec.json.encode(body)

    def opening(self) -> bytes:
        """The first chunk of a chat names the role, as vLLM's does."""
        if not self.is_chat:
            return b""
        more = {"prompt_token_ids": self.request.prompt_token_ids} if self.with_token_ids else {}
        return self._event([self._choice({"role": "assistant", "content": ""}, None)], **more)

    def token_frame(self, *, is_first: bool = False) -> TokenFrame:
        """What stands around the word, and around the token's id, in its event."""
        choice = self._choice({"content": _PLACE} if self.is_chat else _PLACE, None)
        if is_first and self.with_token_ids and not self.is_chat:
            choice["prompt_token_ids"] = self.request.prompt_token_ids
        if not self.with_token_ids:
            before, after = self._event([choice]).split(f'"{_PLACE}"'.encode())
            return before, after, None
        choice["token_ids"] = _IDS_PLACE
        before, rest = self._event([choice]).split(f'"{_PLACE}"'.encode())
        between, after = rest.split(f'"{_IDS_PLACE}"'.encode())
        return before, between, after

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


TokenFrame = tuple[bytes, bytes, bytes | None]
"""Before the word, after it, and after the token id when there is one."""


def token_events(frame: TokenFrame, token_ids: Sequence[int]) -> bytes:
    """An event a token."""
    before, after, end = frame
    if end is None:
        return b"".join([before + _WORDS[token_id] + after for token_id in token_ids])
    return b"".join([before + _WORDS[i] + b"%b[%d]%b" % (after, i, end) for i in token_ids])
