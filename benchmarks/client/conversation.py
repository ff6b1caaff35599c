"""Turns of a session to request bodies: each carries everything that was said before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from shoal.benchmarks.workload.plan import Prompt, Session, Turn
from shoal.errors import ConfigError

Endpoint = Literal["completions", "chat"]
PATHS: dict[Endpoint, str] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}


class RequestForm(msgspec.Struct, frozen=True, kw_only=True):
    """What every request of a run has in common."""

    model: str
    endpoint: Endpoint = "completions"
    ignore_eos: bool = True
    """Ask for answers of exactly the planned length (vLLM, SGLang, llama.cpp and Shoal do)."""
    temperature: float = 0.0
    extra_body: dict[str, Any] = {}
    """Put into each body as it is, last."""


class Conversation:
    """The state of one session: what was said so far."""

    def __init__(self, form: RequestForm, session: Session) -> None:
        self._form = form
        self._said: list[Mapping[str, Any]] = list(session.opening)
        self.keeps_answers = len(session.turns) > 1

    def body(self, turn: Turn) -> bytes:
        """The JSON body of the next turn. Raises ConfigError for token ids sent as chat."""
        form = self._form
        fields: dict[str, Any] = {"model": form.model}
        if form.endpoint == "chat":
            if not isinstance(turn.prompt, str):
                raise ConfigError("token ids can only be sent to the completions endpoint")
            self._said.append({"role": turn.role, "content": turn.prompt})
            fields["messages"] = self._said
        else:
            fields["prompt"] = self._as_prompt(turn.prompt)
        if turn.max_tokens is not None:
            fields["max_tokens"] = turn.max_tokens
            if form.ignore_eos:
                fields["ignore_eos"] = True
        fields |= {
            "temperature": form.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return msgspec.json.encode(fields | form.extra_body)

    def add_answer(self, text: str) -> None:
        """What the model said, before the next turn."""
        self._said.append({"role": "assistant", "content": text})

    def _as_prompt(self, prompt: Prompt) -> Prompt:
        if not self._said and not self.keeps_answers:
            return prompt
        if not isinstance(prompt, str):
            raise ConfigError("a conversation of token ids: several turns need text prompts")
        self._said.append({"role": "user", "content": prompt})
        return "".join(str(message["content"]) for message in self._said)
