"""Keeps what a stream said, at the price of a few searches in its bytes.

Nothing is parsed while all is well, but for 64 KB at a time, so that a long stream costs some ten
bytes a token and not three hundred.
"""

from __future__ import annotations

from typing import Final

import msgspec

from shoal.openai.sse import DONE

from .events import Event, decode_events, decode_failure, event_data, split_complete
from .preparation import Preparation
from .transcript import Transcript

FOLD_BYTES: Final = 64 * 1024
"""Raw events kept before they are folded into the transcript: about 250 tokens, 0.3 ms of work."""
MAX_EVENT_BYTES: Final = 1024 * 1024
"""An event that is not complete after so many bytes is none: the stream is passed on as it is."""

# JSON escapes quotes in texts, so these can only be what they look like.
_TOKEN_IDS: Final = b',"token_ids":['
_PROMPT_TOKEN_IDS: Final = b',"prompt_token_ids":['
_ERROR: Final = b'data: {"error"'
_ABORT: Final = b'"finish_reason":"abort"'


class Recorder:
    """One stream on its way from worker to client: `feed` it, relay what it returns.

    Only for a preparation that has a method. Events are relayed whole: what a worker sent of an
    event before it died never reaches the client.
    """

    __slots__ = (
        "_events", "_max_bytes", "_num_bytes", "_partial", "_prompt_was_seen",
        "failure", "finished", "is_resumable", "strips", "transcript",
    )  # fmt: skip

    def __init__(self, preparation: Preparation, *, max_recorded_bytes: int) -> None:
        self.transcript = Transcript()
        """Call `fold` before reading it."""
        self.finished = False
        """Whether `[DONE]` was relayed: the end of the connection is the end of the stream."""
        self.failure: bytes | None = None
        """An event by which the worker says that it failed or was stopped, not relayed. Treat it as
        the worker's death; if nothing can be resumed, relay it."""
        self.is_resumable = True
        """False once the stream grew beyond `max_recorded_bytes`."""
        self.strips: Final = preparation.strip
        """Whether the client must not see the token ids, which we asked for."""
        self._max_bytes = max_recorded_bytes
        self._events: list[bytes] = []
        self._num_bytes = 0
        self._partial = b""
        self._prompt_was_seen = False

    def feed(self, data: bytes) -> bytes:
        """What to send to the client for these bytes of the worker; may be empty."""
        if self._partial:
            data = self._partial + data
            self._partial = b""
        if not data.endswith(b"\n\n"):
            data, self._partial = split_complete(data)
            if len(self._partial) > MAX_EVENT_BYTES:
                data, self._partial = data + self._partial, b""
                self._give_up()
        if self.failure is not None:
            return b""
        # `find` takes half the time of `in` here.
        if data.find(_ERROR) >= 0 or data.find(_ABORT) >= 0:
            data = self._until_failure(data)
        self.keep(data)
        if data.endswith(DONE):
            self.finished = True
        if not self.strips:
            return data
        if not self._prompt_was_seen:
            self._prompt_was_seen = _TOKEN_IDS in data  # the prompt's come first, or with them
            data = _without(data, _PROMPT_TOKEN_IDS)
        at = data.find(_TOKEN_IDS)
        if at < 0:
            return data
        data = data[:at] + data[data.find(b"]", at) + 1 :]
        return data if data.find(_TOKEN_IDS, at) < 0 else _without(data, _TOKEN_IDS)

    @property
    def has_part(self) -> bool:
        """Whether the next bytes are not the beginning of an event to relay."""
        return bool(self._partial) or self.failure is not None

    def keep(self, data: bytes) -> None:
        """Remember whole events that the client gets."""
        if self.is_resumable:
            self._events.append(data)
            self._num_bytes += len(data)
            if self._num_bytes > FOLD_BYTES:
                self.fold()

    def fold(self) -> None:
        """Bring `transcript` up to date."""
        raw, self._num_bytes = b"".join(self._events), 0
        self._events.clear()
        try:
            events: list[Event] = decode_events(raw)
        except msgspec.MsgspecError:  # not of the shape that can be resumed
            self._give_up()
            return
        self.transcript.add_all(events)
        self.check_size()

    def check_size(self) -> None:
        """Give up what has become too long to keep."""
        if self.transcript.num_bytes > self._max_bytes:
            self._give_up()

    def _give_up(self) -> None:
        self.is_resumable = False
        self._events.clear()
        self.transcript = Transcript()

    def _until_failure(self, data: bytes) -> bytes:
        """The events before one that says that the worker failed; that one is kept."""
        start = 0
        while start < len(data):
            end = data.find(b"\n\n", start) + 2
            end = end if end > 1 else len(data)
            if is_failure(data[start:end]):
                self.failure = data[start:end]
                return data[:start]
            start = end
        return data


def strip_token_ids(data: bytes) -> bytes:
    """Whole events without token ids: bytes are cut out, nothing is encoded again."""
    return _without(_without(data, _PROMPT_TOKEN_IDS), _TOKEN_IDS)


def _without(data: bytes, key: bytes) -> bytes:
    at = data.find(key)
    while at >= 0:
        end = data.find(b"]", at)
        data = data[:at] + data[end + 1 :]
        at = data.find(key, at)
    return data


def is_failure(event: bytes) -> bool:
    """Whether an event says that the worker failed, and not that the request is wrong."""
    if _ABORT in event:
        return True  # nobody but the worker stops it: the router drops the connection instead
    if _ERROR not in event:
        return False
    for data in event_data(event):
        try:
            error = decode_failure(data).error
        except msgspec.MsgspecError:
            continue
        if error is not None:
            is_clients = isinstance(error.code, int) and 400 <= error.code < 500
            return not (is_clients or "BadRequest" in (error.type or "")
                        or "invalid_request" in (error.type or ""))  # fmt: skip
    return False
