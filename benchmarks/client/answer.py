"""One streamed answer: when its tokens came, what it counted, how it ended.

A chunk counts as a token's arrival when it carries text, or says nothing else: servers hold
back half a character and then send an empty text for its token. Chunks that only name the role or
the reason of the end do not count.
"""

from __future__ import annotations

from array import array

import msgspec

from .sse import EventSplitter, EventTooLong

MAX_ERROR_BODY = 2_000


class _Delta(msgspec.Struct):
    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw(b"null")


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: msgspec.Raw = msgspec.Raw(b"")


class Answer:
    """Collects one response. `error` is its kind of failure, None while all is well."""

    _decode = msgspec.json.Decoder(_Chunk).decode

    def __init__(self, *, keep_text: bool = False) -> None:
        self.sent_s: float | None = None
        """When sending began, by perf_counter, as are the other times. Connecting comes after it: a
        slow accept is the server's delay, not the client's."""
        self.status: int | None = None
        self.first_s: float | None = None
        self.last_s = 0.0
        self.gaps = array("f")
        self.num_chunks = 0
        self.usage: _Usage | None = None
        self.error: str | None = None
        self.detail = ""
        self._text: list[str] | None = [] if keep_text else None
        self._events: EventSplitter | None = None
        self._body = b""
        self._ended = False

    @property
    def text(self) -> str:
        return "".join(self._text or ())

    def on_headers(self, status: int, content_type: bytes) -> None:
        self.status = status
        if status == 200 and content_type.startswith(b"text/event-stream"):
            self._events = EventSplitter()

    def on_body(self, data: bytes, now: float) -> None:
        if self._events is None:
            self._body = (self._body + data)[:MAX_ERROR_BODY]
            return
        if self.error is not None:
            return
        try:
            for payload in self._events.feed(data):
                self._on_event(payload, now)
        except (msgspec.DecodeError, EventTooLong) as error:
            self.fail("bad_stream", f"the stream holds something else than chunks: {error}")

    def on_complete(self) -> None:
        """The response ended as HTTP says it should."""
        if self.status != 200:
            self.fail(f"http_{self.status}", self._body.decode(errors="replace"))
        elif self._events is None:
            self.fail("bad_stream", "the answer is not an event stream (is streaming supported?)")
        elif not self._ended:
            self.fail("cut_stream", "the stream ended without a finish reason and without [DONE]")
        elif self.num_chunks == 0:
            self.fail("no_tokens", "a complete answer without a single token")

    def fail(self, kind: str, detail: str) -> None:
        """Keep the first failure: later ones follow from it."""
        if self.error is None:
            self.error, self.detail = kind, " ".join(detail.split())[:300]

    def forget_failure(self) -> None:
        """Before the request is sent again."""
        self.error, self.detail = None, ""

    def _on_event(self, payload: bytes, now: float) -> None:
        if payload == b"[DONE]":
            self._ended = True
            return
        chunk = self._decode(payload)
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.choices:
            self._on_choice(chunk.choices[0], now)
        elif bytes(chunk.error) not in (b"", b"null"):
            self.fail("stream_error", bytes(chunk.error).decode(errors="replace"))

    def _on_choice(self, choice: _Choice, now: float) -> None:
        delta = choice.delta
        role = None
        if delta is None:
            text = choice.text
        else:
            text = delta.content or delta.reasoning_content or delta.reasoning
            role = delta.role
            if not text and bytes(delta.tool_calls) != b"null":
                role, text = None, ""
        if choice.finish_reason is not None:
            self._ended = True
        if not text and (role is not None or choice.finish_reason is not None):
            return
        if self.first_s is None:
            self.first_s = now
        else:
            self.gaps.append(now - self.last_s)
        self.last_s = now
        self.num_chunks += 1
        if self._text is not None and text:
            self._text.append(text)
