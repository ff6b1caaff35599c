"""Method one: prompt + tokens so far as a completion, its events as those of the first stream."""

from __future__ import annotations

from typing import Any

import msgspec

from shoal.openai.sse import DONE

from ..core.types import EngineKind
from ..request_fields import RequestFields, is_given
from .events import DONE_DATA, Choice, EventSplitter, decode_event
from .recorder import Recorder, is_failure
from .rendering import Renderer, moved_usage

_COPIED = (
    "stream_options", "temperature", "top_k", "top_p", "min_p", "seed", "presence_penalty",
    "frequency_penalty", "repetition_penalty", "ignore_eos", "include_stop_str_in_output",
    "skip_special_tokens", "spaces_between_special_tokens", "user", "session_id", "priority",
    "cache_salt",
)  # fmt: skip
_COPIED_RAW = ("logit_bias", "allowed_token_ids", "stop_token_ids")


def continuation_body(
    fields: RequestFields,
    *,
    prompt: list[int],
    generated: list[int],
    max_tokens: int,
    engine: EngineKind,
) -> bytes:
    """The body that asks for what comes after `generated`, at most `max_tokens` of it."""
    body: dict[str, Any] = {
        "model": fields.model,
        "prompt": prompt + generated,
        "max_tokens": max_tokens,
        "stream": True,
        "return_token_ids": True,
    }
    for name in _COPIED:
        value = getattr(fields, name)
        if value is not None:
            body[name] = value
    for name in _COPIED_RAW:
        raw = getattr(fields, name)
        if is_given(raw):
            body[name] = raw
    if isinstance(fields.min_tokens, int):
        body["min_tokens"] = max(fields.min_tokens - len(generated), 0)
    if engine is EngineKind.SHOAL and generated:
        body["shoal_output_offset"] = len(generated)
    return msgspec.json.encode(body)


class ContinuedStream:
    """Rewrites the events of a continuation into those of the stream it continues."""

    def __init__(
        self,
        recorder: Recorder,
        renderer: Renderer,
        *,
        skip: str,
        is_exact: bool,
    ) -> None:
        self.error: str | None = None
        self.failed: str | None = None
        self.finished = False
        self._recorder = recorder
        self._transcript = recorder.transcript
        self._renderer = renderer
        self._skip = skip
        """Text that comes again, because its tokens were dropped."""
        self._is_exact = is_exact
        self._num_before = len(self._transcript.token_ids)
        self._splitter = EventSplitter()

    def feed(self, data: bytes) -> bytes:
        """What to relay for these bytes."""
        out: list[bytes] = []
        for payload in self._splitter.feed(data):
            if self.error or self.failed or self.finished:
                break
            out.append(self._event(payload))
        self._recorder.check_size()
        return b"".join(out)

    def _event(self, payload: bytes) -> bytes:
        if payload == DONE_DATA:
            self.finished = True
            return DONE
        try:
            event = decode_event(payload)
        except msgspec.MsgspecError as error:
            self.failed = f"the new worker's event is no completion: {error}"
            return b""
        if event.error is not None or is_failure(payload):
            self.failed = "the new worker failed"
            return b""
        usage = None if event.usage is None else moved_usage(event.usage, self._num_before)
        if event.choices:
            return self._choice(event.choices[0], usage)
        if usage is None:
            return b""
        self._transcript.usage_told = True
        return self._renderer.usage_chunk(usage)

    def _choice(self, choice: Choice, usage: dict[str, Any] | None) -> bytes:
        transcript = self._transcript
        new_ids = choice.token_ids or []
        transcript.token_ids += new_ids
        text = self._after_skip(choice.text or "")
        told_ids = self._after_dropped(new_ids)
        if self.error:
            return b""
        if not (text or told_ids or choice.finish_reason):
            return b""
        if not (text or choice.finish_reason or self._renderer.tells_token_ids):
            return b""
        if text:
            transcript.add_text(text)
        transcript.finish_reason = choice.finish_reason
        return self._renderer.chunk(
            text,
            finish_reason=choice.finish_reason,
            stop_reason=choice.stop_reason,
            token_ids=told_ids,
            usage=usage,
        )

    def _after_skip(self, text: str) -> str:
        if not self._skip:
            return text
        num = min(len(self._skip), len(text))
        if text[:num] != self._skip[:num]:
            self.error = "the new worker says something else than was told already"
            return ""
        self._skip = self._skip[num:]
        return text[num:]

    def _after_dropped(self, token_ids: list[int]) -> list[int]:
        ahead = self._transcript.ids_ahead
        if not ahead:
            return token_ids
        num = min(len(ahead), len(token_ids))
        if self._is_exact and self._renderer.tells_token_ids and token_ids[:num] != ahead[:num]:
            self.error = "the new worker chooses other tokens than were told already"
            return []
        del ahead[:num]
        return token_ids[num:]
