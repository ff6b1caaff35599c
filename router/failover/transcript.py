"""What a client has been told of one answer: enough to continue it, or to recognise it."""

from __future__ import annotations

from typing import Any

from .events import Delta, Event


class ToolCall:
    """One call so far."""

    __slots__ = ("arguments", "name")

    def __init__(self) -> None:
        self.name = ""
        self.arguments = ""


class Transcript:
    """The events of one choice, folded together.

    Invariant: `text` is what was told; `token_ids` are the tokens it came from. Their text may go
    further (a worker holds incomplete characters back), and after a failover, for a moment, less
    far: then `ids_ahead` are the tokens that are being computed again.
    """

    __slots__ = (
        "created", "finish_reason", "id", "ids_ahead", "is_started", "logprob_tokens", "model",
        "num_chars", "prompt_token_ids", "reasoning_parts", "role", "text_parts", "token_ids",
        "tool_calls", "usage_told",
    )  # fmt: skip

    def __init__(self) -> None:
        self.is_started = False
        """Whether there was any event; then id, created and model are those the client knows."""
        self.id = ""
        self.created = 0
        self.model = ""
        self.role: str | None = None
        self.prompt_token_ids: list[int] | None = None
        self.token_ids: list[int] = []
        self.ids_ahead: list[int] = []
        self.text_parts: list[str] = []
        self.reasoning_parts: list[str] = []
        self.tool_calls: dict[int, ToolCall] = {}
        self.logprob_tokens: list[str] = []
        """The text of each token whose log-probability was told."""
        self.finish_reason: str | None = None
        self.usage_told = False
        """Whether the chunk without choices that tells the usage was relayed."""
        self.num_chars = 0

    @property
    def text(self) -> str:
        """What was told of the answer's text."""
        return "".join(self.text_parts)

    @property
    def reasoning(self) -> str:
        return "".join(self.reasoning_parts)

    @property
    def num_bytes(self) -> int:
        """About what it holds in memory."""
        return self.num_chars + 8 * len(self.token_ids) + 64 * len(self.logprob_tokens)

    def add_all(self, events: list[Event]) -> None:
        """Take in many events."""
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Take in one event that was, or is about to be, relayed."""
        if not self.is_started:
            self.is_started = True
            self.id, self.created, self.model = event.id, event.created, event.model
        if event.prompt_token_ids is not None:
            self.prompt_token_ids = event.prompt_token_ids
        if not event.choices:
            self.usage_told |= event.usage is not None
            return
        choice = event.choices[0]
        if choice.prompt_token_ids is not None:
            self.prompt_token_ids = choice.prompt_token_ids
        if choice.token_ids:
            self.token_ids += choice.token_ids
        if choice.text:
            self.add_text(choice.text)
        if choice.delta is not None:
            self._add_delta(choice.delta)
        if choice.logprobs is not None:
            self.logprob_tokens += logprob_tokens(choice.logprobs)
        if choice.finish_reason is not None:
            self.finish_reason = choice.finish_reason

    def add_text(self, text: str) -> None:
        """More of the answer was told."""
        self.text_parts.append(text)
        self.num_chars += len(text)

    def _add_delta(self, delta: Delta) -> None:
        if delta.role is not None:
            self.role = delta.role
        if delta.content:
            self.add_text(delta.content)
        reasoning = delta.reasoning or delta.reasoning_content
        if reasoning:
            self.reasoning_parts.append(reasoning)
            self.num_chars += len(reasoning)
        for call in delta.tool_calls or ():
            self._add_tool_call(call)

    def _add_tool_call(self, call: dict[str, Any]) -> None:
        known = self.tool_calls.setdefault(call.get("index") or 0, ToolCall())
        function = call.get("function") or {}
        known.name += function.get("name") or ""
        arguments = function.get("arguments") or ""
        known.arguments += arguments
        self.num_chars += len(arguments)


def logprob_tokens(logprobs: dict[str, Any]) -> list[str]:
    """The tokens of a chunk's log-probabilities, of a chat or of a completion."""
    content = logprobs.get("content")
    if content is not None:
        return [entry.get("token", "") for entry in content]
    return list(logprobs.get("tokens") or ())
