"""Events that the router writes itself, in the shape of the stream they continue."""

from __future__ import annotations

from typing import Any

import msgspec

from .preparation import Preparation
from .transcript import Transcript

_encode = msgspec.json.Encoder().encode


class Renderer:
    """Writes chunks of one answer, as its first worker would have."""

    def __init__(self, preparation: Preparation, transcript: Transcript) -> None:
        fields = preparation.fields
        options = fields.stream_options if isinstance(fields.stream_options, dict) else {}
        self.wants_usage = bool(options.get("include_usage"))
        self.tells_token_ids = not preparation.strip
        """Whether the client asked for them."""
        self._continuous = self.wants_usage and bool(options.get("continuous_usage_stats"))
        self._is_chat = preparation.is_chat
        self._transcript = transcript

    def chunk(
        self,
        text: str,
        *,
        finish_reason: str | None = None,
        stop_reason: Any = msgspec.UNSET,
        token_ids: list[int] | None = None,
        usage: dict[str, Any] | None = None,
    ) -> bytes:
        """One event of the answer."""
        choice: dict[str, Any] = {"index": 0}
        if self._is_chat:
            choice["delta"] = {"content": text}
        else:
            choice["text"] = text
        choice |= {"logprobs": None, "finish_reason": finish_reason}
        if stop_reason is not msgspec.UNSET and (finish_reason or not self._is_chat):
            choice["stop_reason"] = stop_reason
        if self.tells_token_ids and token_ids is not None:
            choice["token_ids"] = token_ids
        return self._event([choice], usage)

    def text(self, text: str) -> bytes:
        """Text that the first worker held back."""
        return self.chunk(text, token_ids=[], usage=self._usage_so_far())

    def finish(self, reason: str) -> bytes:
        """The end, without text."""
        return self.chunk(
            "", finish_reason=reason, stop_reason=None, token_ids=[], usage=self._usage_so_far()
        )

    def usage(self, num_prompt_tokens: int, num_completion_tokens: int) -> bytes:
        """The chunk without choices that tells the usage."""
        return self.usage_chunk(usage_of(num_prompt_tokens, num_completion_tokens))

    def usage_chunk(self, usage: dict[str, Any]) -> bytes:
        """The same from a worker's own counts."""
        return self._event([], usage)

    def _usage_so_far(self) -> dict[str, Any] | None:
        if not self._continuous:
            return None
        transcript = self._transcript
        return usage_of(len(transcript.prompt_token_ids or ()), len(transcript.token_ids))

    def _event(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> bytes:
        transcript = self._transcript
        payload: dict[str, Any] = {
            "id": transcript.id,
            "object": "chat.completion.chunk" if self._is_chat else "text_completion",
            "created": transcript.created,
            "model": transcript.model,
            "choices": choices,
        }
        if usage is not None:
            payload["usage"] = usage
        return b"data: %b\n\n" % _encode(payload)


def usage_of(num_prompt_tokens: int, num_completion_tokens: int) -> dict[str, Any]:
    """Counts in the API's words."""
    return {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": num_completion_tokens,
        "total_tokens": num_prompt_tokens + num_completion_tokens,
    }


def moved_usage(usage: dict[str, Any], num_tokens: int) -> dict[str, Any]:
    """A continuation's counts as the whole answer's: `num_tokens` of its prompt were answer."""
    moved = dict(usage)
    moved["prompt_tokens"] = usage.get("prompt_tokens", num_tokens) - num_tokens
    moved["completion_tokens"] = (usage.get("completion_tokens") or 0) + num_tokens
    details = usage.get("prompt_tokens_details")
    if isinstance(details, dict) and isinstance(details.get("cached_tokens"), int):
        cached = min(details["cached_tokens"], moved["prompt_tokens"])
        moved["prompt_tokens_details"] = {**details, "cached_tokens": cached}
    return moved
