"""The rest of a stream, from another worker: which call comes next, and what the client gets of it.

    resume = Resume(preparation, recorder, engine=...)
    send resume.take()                       # text that was held back, or the end of the stream
    while not (resume.error or resume.finished):
        call = resume.next_call()            # to the new worker
        if call.streams:
            for each piece of the answer: send resume.feed(piece)
        else:
            resume.answer(status, body); send resume.take()

When the new worker dies too, begin again with a new `Resume` and the same recorder: what this one
relayed is in its transcript.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from shoal.openai.sse import DONE

from ..core.types import EngineKind
from .alignment import Alignment
from .continuation import ContinuedStream, continuation_body
from .preparation import (
    COMPLETIONS_PATH,
    Method,
    Preparation,
    choose_method,
    is_deterministic,
)
from .recorder import Recorder
from .rendering import Renderer
from .replay import ReplayedStream

DEFAULT_COMPLETION_TOKENS = 16
"""OpenAI's default of `max_tokens` for completions; a chat has the rest of the context."""


class Call(NamedTuple):
    """One request to the new worker."""

    method: str
    path: str
    body: bytes
    streams: bool
    """Whether the answer goes to `feed`, else, when it is whole, to `answer`."""


class Resume:
    """One attempt to go on with one stream on one worker."""

    def __init__(self, preparation: Preparation, recorder: Recorder, *, engine: EngineKind) -> None:
        self.error: str | None = None
        """Why it cannot go on, here or anywhere; end the stream with an error."""
        self.failed: str | None = None
        """Why this worker cannot do it; another may."""
        self.finished = False
        """Whether `[DONE]` was returned."""
        self.method: Method | None = None
        self._preparation = preparation
        self._recorder = recorder
        self._engine = engine
        self._out: list[bytes] = []
        self._alignment: Alignment | None = None
        self._limit: int | None = None
        """Tokens of the whole answer; None: not known yet."""
        self._stream: ContinuedStream | ReplayedStream | None = None
        recorder.fold()
        recorder.failure = None
        self._begin()

    # -- what the data plane does -----------------------------------------------------------

    def next_call(self) -> Call | None:
        """The request to make now; None when there is none to make."""
        if self.error or self.failed or self.finished:
            return None
        if isinstance(self._stream, ReplayedStream):
            return Call("POST", self._preparation.path, self._preparation.body, True)
        assert self._alignment is not None
        token_ids = self._alignment.to_detokenize
        if token_ids is not None:
            return Call("POST", "/detokenize", self._body(tokens=token_ids), False)
        if self._limit is None:
            return Call("POST", "/tokenize", self._body(prompt="a"), False)
        return Call("POST", COMPLETIONS_PATH, self._continuation_body(), True)

    def answer(self, status: int, body: bytes) -> None:
        """Take in the whole answer of a call that does not stream; then `take`."""
        alignment = self._alignment
        assert alignment is not None
        try:
            answer = msgspec.json.decode(body) if status == 200 else None
            if not isinstance(answer, dict):
                raise ValueError(f"status {status}")
            if alignment.to_detokenize is not None:
                alignment.answer(_text_of(answer))
            else:
                self._limit = _max_model_len_of(answer) - len(self._prompt())
        except (msgspec.MsgspecError, ValueError) as error:
            if status >= 500:
                self.failed = f"the new worker answers {error}"
            else:
                self._replay(f"the new worker cannot tell a text of tokens: {error}")
            return
        self._aligned()

    def take(self) -> bytes:
        """What to send to the client before anything that `feed` returns."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def feed(self, data: bytes) -> bytes:
        """What to send to the client for these bytes of a streamed answer."""
        stream = self._stream
        assert stream is not None
        out = stream.feed(data)
        self.error, self.failed, self.finished = stream.error, stream.failed, stream.finished
        return out

    # -- choosing --------------------------------------------------------------------------

    def _begin(self) -> None:
        preparation, recorder = self._preparation, self._recorder
        transcript = recorder.transcript
        if not recorder.is_resumable:
            self.error = "the stream is too long to be resumed"
            return
        if preparation.method is None:
            self.error = preparation.reason
            return
        if self._engine is not preparation.engine and preparation.mode == "exact":
            # Two engines do not round alike: from somewhere on they say different things.
            self.error = f"a stream of {preparation.engine} is not resumed on {self._engine}"
            return
        if transcript.finish_reason is not None and self._finish_locally():
            return
        method, reason = choose_method(
            preparation.path, preparation.fields, engine=self._engine, mode=preparation.mode
        )
        if method is None:
            self.error = reason
        elif method == "replay" or preparation.method == "replay":
            self._replay(reason)
        else:
            self._continue()

    def _continue(self) -> None:
        transcript = self._recorder.transcript
        if not transcript.is_started:
            self._replay("nothing was told yet")
        elif transcript.prompt_token_ids is None:
            self._replay("the worker returned no token ids")
        elif transcript.reasoning_parts or transcript.tool_calls:
            self._replay("the answer is more than text")
        elif _has_media(bytes(self._preparation.fields.messages)):
            self._replay("the prompt is more than text")
        else:
            self.method = "continue"
            self._alignment = Alignment(
                transcript.prompt_token_ids, transcript.token_ids, transcript.text
            )
            self._limit = self._max_tokens()
            self._aligned()

    def _aligned(self) -> None:
        """Go on when the alignment is done and the limit is known."""
        alignment, transcript = self._alignment, self._recorder.transcript
        assert alignment is not None
        if alignment.failure:
            self._replay(alignment.failure)
            return
        if alignment.to_detokenize is not None or self._limit is None:
            return
        renderer = self._renderer()
        if alignment.rest:
            self._out.append(renderer.text(alignment.rest))
            transcript.add_text(alignment.rest)
            alignment.rest = ""
        if self._limit - alignment.num_kept <= 0:
            # All tokens were told and only the reason was lost; a stop token would have had one.
            self._out.append(renderer.finish("length"))
            transcript.finish_reason = "length"
            self._finish_locally()
            return
        transcript.ids_ahead = transcript.token_ids[alignment.num_kept :] + transcript.ids_ahead
        del transcript.token_ids[alignment.num_kept :]
        self._stream = ContinuedStream(
            self._recorder,
            renderer,
            skip=alignment.skip,
            is_exact=is_deterministic(self._preparation.fields, self._engine),
        )

    def _replay(self, why: str) -> None:
        if not is_deterministic(self._preparation.fields, self._engine):
            self.error = f"{why}, and without a seed there is no same answer again"
            return
        self.method = "replay"
        self._stream = ReplayedStream(self._recorder, strip=self._preparation.strip)

    def _finish_locally(self) -> bool:
        """End a stream whose answer was told to its end; False when the usage is not known."""
        transcript, renderer = self._recorder.transcript, self._renderer()
        if renderer.wants_usage and not transcript.usage_told:
            if transcript.prompt_token_ids is None:
                return False
            self._out.append(
                renderer.usage(len(transcript.prompt_token_ids), len(transcript.token_ids))
            )
            transcript.usage_told = True
        self._out.append(DONE)
        self.finished = True
        return True

    # -- bodies ----------------------------------------------------------------------------

    def _renderer(self) -> Renderer:
        return Renderer(self._preparation, self._recorder.transcript)

    def _prompt(self) -> list[int]:
        return self._recorder.transcript.prompt_token_ids or []

    def _max_tokens(self) -> int | None:
        fields = self._preparation.fields
        is_chat = self._preparation.is_chat
        if is_chat and isinstance(fields.max_completion_tokens, int):
            return fields.max_completion_tokens
        if isinstance(fields.max_tokens, int):
            return fields.max_tokens
        return None if is_chat else DEFAULT_COMPLETION_TOKENS

    def _body(self, **fields: Any) -> bytes:
        return msgspec.json.encode({"model": self._preparation.fields.model, **fields})

    def _continuation_body(self) -> bytes:
        assert self._limit is not None
        transcript = self._recorder.transcript
        return continuation_body(
            self._preparation.fields,
            prompt=self._prompt(),
            generated=transcript.token_ids,
            max_tokens=self._limit - len(transcript.token_ids),
            engine=self._engine,
        )


def _text_of(answer: dict[str, Any]) -> str:
    text = answer.get("prompt")
    if not isinstance(text, str):
        raise ValueError("no text")
    return text


def _max_model_len_of(answer: dict[str, Any]) -> int:
    length = answer.get("max_model_len")
    if not isinstance(length, int):
        raise ValueError("no max_model_len")
    return length


_MEDIA = (b"_url", b"input_audio", b"image_", b'"image"', b'"video"', b'"file"')


def _has_media(messages: bytes) -> bool:
    """Whether there may be parts other than text, whose tokens are not all of the prompt."""
    return b'"type"' in messages and any(mark in messages for mark in _MEDIA)
