from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.benchmarks.client import sse
from shoal.benchmarks.client.sse import EventSplitter, EventTooLong

STREAM = (
    b': a comment\n\ndata: {"a": 1}\n\nevent: x\ndata: two\ndata: lines\n\nid: 7\n\n'
    b"data:tight\n\ndata: [DONE]\n\n"
)
PAYLOADS = [b'{"a": 1}', b"two\nlines", b"tight", b"[DONE]"]


def feed(pieces: list[bytes]) -> list[bytes]:
    splitter = EventSplitter()
    return [payload for piece in pieces for payload in splitter.feed(piece)]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12), st.booleans())
def test_events_do_not_depend_on_how_bytes_arrive(cuts: list[int], crlf: bool) -> None:
    stream = STREAM.replace(b"\n", b"\r\n") if crlf else STREAM
    edges = [0, *sorted(cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(edges)]
    assert feed(pieces) == PAYLOADS


def test_every_byte_alone() -> None:
    stream = STREAM.replace(b"\n", b"\r\n")
    assert feed([stream[i : i + 1] for i in range(len(stream))]) == PAYLOADS


def test_half_an_event_waits() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: on") == []
    assert splitter.feed(b"e\n") == []
    assert splitter.feed(b"\n") == [b"one"]


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    splitter = EventSplitter()
    splitter.feed(b"data: " + b"x" * 90)
    with pytest.raises(EventTooLong, match="100 bytes"):
        splitter.feed(b"x" * 20)
