"""Method two: the same request again; what the client has is compared and dropped."""

from __future__ import annotations

from typing import Any

import msgspec

from shoal.openai.sse import DONE

from .events import DONE_DATA, EventSplitter, decode_event
from .recorder import Recorder, is_failure, strip_token_ids
from .transcript import logprob_tokens

_encode = msgspec.json.Encoder().encode
_MISMATCH = "the new worker says something else than was told already"


class Mismatch(Exception):
    """The second answer differs from what the client has of the first."""


class _Told:
    """A sequence that the client has, and how much of it has come again."""

    __slots__ = ("_at", "_told")

    def __init__(self, told: Any) -> None:
        self._told = told
        self._at = 0

    @property
    def is_done(self) -> bool:
        return self._at >= len(self._told)

    def take(self, new: Any) -> int:
        """How many of the leading items of `new` are known. Raises Mismatch."""
        num = min(len(self._told) - self._at, len(new))
        if num > 0 and new[:num] != self._told[self._at : self._at + num]:
            raise Mismatch
        self._at += max(num, 0)
        return max(num, 0)


class ReplayedStream:
    """Passes on what goes beyond the transcript, under the first stream's id."""

    def __init__(self, recorder: Recorder, *, strip: bool) -> None:
        self.error: str | None = None
        self.failed: str | None = None
        self.finished = False
        self._recorder = recorder
        transcript = self._transcript = recorder.transcript
        self._strip = strip
        self._splitter = EventSplitter()
        self._was_started = transcript.is_started
        self._prompt_ids_told = transcript.prompt_token_ids is not None
        self._ignores_ids = self._was_started and not self._prompt_ids_told
        """The first worker told no token ids; those of the second alone would be of no use."""
        self._text = _Told(transcript.text)
        self._reasoning = _Told(transcript.reasoning)
        transcript.token_ids += transcript.ids_ahead
        transcript.ids_ahead = []
        self._token_ids = _Told(list(transcript.token_ids))
        self._logprobs = _Told(list(transcript.logprob_tokens))
        self._tools = {
            index: (_Told(call.name), _Told(call.arguments))
            for index, call in transcript.tool_calls.items()
        }
        self._head: list[tuple[bytes, bytes]] = []
        """Bytes of the new stream's id, created and model, and what stands in their place."""
        self._caught_up = not self._was_started

    def feed(self, data: bytes) -> bytes:
        """What to relay for these bytes."""
        out: list[bytes] = []
        for payload in self._splitter.feed(data):
            if self.error or self.failed or self.finished:
                break
            try:
                out.append(self._event(payload))
            except Mismatch:
                self.error = _MISMATCH
            except (msgspec.MsgspecError, AttributeError, TypeError) as error:
                self.failed = f"the new worker's event is not understood: {error}"
        self._recorder.check_size()
        return b"".join(out)

    def _event(self, payload: bytes) -> bytes:
        transcript = self._transcript
        if payload == DONE_DATA:
            if not self._caught_up:
                raise Mismatch
            self.finished = True
            return DONE
        event = b"data: %b\n\n" % payload
        if is_failure(event):
            self.failed = "the new worker failed"
            return b""
        if self._ignores_ids:
            event = strip_token_ids(event)
            payload = event[6:-2]
        if not self._caught_up:
            event = self._beyond(payload)
            if not event:
                return b""
            payload = event[6:-2]
        transcript.add(decode_event(payload))
        if self._was_started:
            for new, old in self._head_of(payload):
                event = event.replace(new, old, 1)
        return strip_token_ids(event) if self._strip else event

    def _head_of(self, payload: bytes) -> list[tuple[bytes, bytes]]:
        """Texts in JSON cannot hold these unescaped, so the first of each is the head's."""
        if not self._head:
            transcript, event = self._transcript, decode_event(payload)
            for name in ("id", "created", "model"):
                new, old = _encode(getattr(event, name)), _encode(getattr(transcript, name))
                if new != old:
                    key = b'"%b":' % name.encode()
                    self._head.append((key + new, key + old))
                    self._head.append((key + b" " + new, key + b" " + old))
            self._head.append((b"", b""))  # known now, even when nothing differs
        return self._head

    # -- until the new answer goes beyond the old one ----------------------------------------

    def _beyond(self, payload: bytes) -> bytes:
        """An event less what was told; b"" when nothing is left."""
        event = msgspec.json.decode(payload)
        if event.get("error") is not None:
            return b"data: %b\n\n" % payload
        if self._prompt_ids_told:
            event.pop("prompt_token_ids", None)
        choices = event.get("choices")
        if not choices:
            self._require_caught_up()
            return b"" if self._transcript.usage_told else b"data: %b\n\n" % _encode(event)
        is_new = self._choice_beyond(choices[0])
        if self._is_all_told():
            self._caught_up = self._transcript.finish_reason is None
        elif is_new:
            raise Mismatch
        return b"data: %b\n\n" % _encode(event) if is_new else b""

    def _choice_beyond(self, choice: dict[str, Any]) -> bool:
        is_new = False
        if self._prompt_ids_told:
            choice.pop("prompt_token_ids", None)
        if choice.get("token_ids"):
            choice["token_ids"] = choice["token_ids"][self._token_ids.take(choice["token_ids"]) :]
            is_new |= bool(choice["token_ids"])
        if choice.get("text"):
            choice["text"] = choice["text"][self._text.take(choice["text"]) :]
            is_new |= bool(choice["text"])
        if choice.get("delta"):
            is_new |= self._delta_beyond(choice["delta"])
        if choice.get("logprobs"):
            choice["logprobs"] = self._logprobs_beyond(choice["logprobs"])
            is_new |= choice["logprobs"] is not None
        if choice.get("finish_reason") is not None:
            if self._transcript.finish_reason is None:
                is_new = True
            elif self._transcript.finish_reason != choice["finish_reason"] or is_new:
                raise Mismatch
        return is_new

    def _delta_beyond(self, delta: dict[str, Any]) -> bool:
        is_new = False
        if self._transcript.role is not None:
            delta.pop("role", None)
        elif delta.get("role"):
            is_new = True
        if delta.get("content"):
            delta["content"] = delta["content"][self._text.take(delta["content"]) :]
            is_new |= bool(delta["content"])
        # Some send reasoning under both names.
        names = [name for name in ("reasoning", "reasoning_content") if delta.get(name)]
        if names:
            reasoning = delta[names[0]]
            reasoning = reasoning[self._reasoning.take(reasoning) :]
            delta.update(dict.fromkeys(names, reasoning))
            is_new |= bool(reasoning)
        if delta.get("tool_calls"):
            calls = [call for call in delta["tool_calls"] if self._call_beyond(call)]
            if calls:
                delta["tool_calls"] = calls
                is_new = True
            else:
                del delta["tool_calls"]
        return is_new

    def _call_beyond(self, call: dict[str, Any]) -> bool:
        told = self._tools.get(call.get("index") or 0)
        if told is None:
            return True
        # Its id was told, and is another one now: ids of calls are random.
        call.pop("id", None)
        function = call.get("function") or {}
        is_new = False
        for name, part in zip(("name", "arguments"), told, strict=True):
            if function.get(name):
                function[name] = function[name][part.take(function[name]) :]
                is_new |= bool(function[name])
            if not function.get(name):
                function.pop(name, None)
        return is_new

    def _logprobs_beyond(self, logprobs: dict[str, Any]) -> dict[str, Any] | None:
        tokens = logprob_tokens(logprobs)
        num = self._logprobs.take(tokens)
        if num == len(tokens):
            return None
        return {
            name: values[num:] if isinstance(values, list) else values
            for name, values in logprobs.items()
        }

    def _is_all_told(self) -> bool:
        parts = (self._text, self._reasoning, self._token_ids, self._logprobs)
        calls = (part for pair in self._tools.values() for part in pair)
        return all(part.is_done for part in parts) and all(part.is_done for part in calls)

    def _require_caught_up(self) -> None:
        if not self._is_all_told():
            raise Mismatch
        self._caught_up = True
