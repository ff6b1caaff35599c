"""Server-sent events of completions, as the router reads them."""

from __future__ import annotations

from typing import Any

import msgspec

from shoal.openai.sse import DONE

DONE_DATA = b"[DONE]"


class Delta(msgspec.Struct, gc=False):
    """The new part of a chat answer; `reasoning` is vLLM's, `reasoning_content` SGLang's name."""

    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class Choice(msgspec.Struct, gc=False):
    """The new part of the answer: `text` of a completion, `delta` of a chat."""

    text: str | None = None
    delta: Delta | None = None
    logprobs: dict[str, Any] | None = None
    finish_reason: str | None = None
    stop_reason: str | int | msgspec.UnsetType | None = msgspec.UNSET
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None


class Event(msgspec.Struct, gc=False):
    """One event's payload."""

    id: str = ""
    created: int = 0
    model: str = ""
    choices: list[Choice] = []
    usage: dict[str, Any] | None = None
    prompt_token_ids: list[int] | None = None
    error: msgspec.Raw | None = None


decode_event = msgspec.json.Decoder(Event).decode
_decode_list = msgspec.json.Decoder(list[Event]).decode


def decode_events(whole: bytes) -> list[Event]:
    """The events in bytes of whole events, but for `[DONE]`. Raises msgspec.MsgspecError."""
    if whole.endswith(DONE):
        whole = whole[: -len(DONE)]
    if whole.startswith(b"data: ") and whole.endswith(b"}\n\n"):
        # As nearly all streams are: one JSON list, once what separates events is a comma. (Texts
        # in JSON hold no newline.)
        try:
            return _decode_list(b"[%b]" % whole[6:-2].replace(b"\n\ndata: ", b","))
        except msgspec.DecodeError:
            pass
    return [decode_event(data) for data in event_data(whole) if data != DONE_DATA]


class _ErrorDetail(msgspec.Struct):
    type: str | None = None
    code: int | str | None = None


class Failure(msgspec.Struct):
    """An event that says what went wrong."""

    error: _ErrorDetail | None = None


decode_failure = msgspec.json.Decoder(Failure).decode


class EventSplitter:
    """Cuts a stream of bytes into the data of its events; keeps what is incomplete.

    Comments and fields other than `data` are skipped. Lines end with LF or CRLF.
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that are complete now."""
        whole, self._rest = split_complete(self._rest + data)
        return event_data(whole)


def event_data(whole: bytes) -> list[bytes]:
    """The `data` of each event in bytes of whole events."""
    found = []
    for line in whole.split(b"\n"):
        if line.startswith(b"data:"):
            found.append(line[5:].strip())
    return found


def split_complete(data: bytes) -> tuple[bytes, bytes]:
    """Bytes of whole events, and the beginning of the next one."""
    lf, crlf = data.rfind(b"\n\n"), data.rfind(b"\r\n\r\n")
    end = max(lf + 2 if lf >= 0 else 0, crlf + 4 if crlf >= 0 else 0)
    return data[:end], data[end:]
