from __future__ import annotations

import re
from random import Random

import pytest

from shoal.router.telemetry.traceparent import child_traceparent

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{PARENT}-01".encode()
FORM = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")


def test_a_trace_is_continued() -> None:
    context = child_traceparent(GOOD, 0.0, Random(1))
    assert context.trace_id == TRACE
    assert context.parent_id == PARENT
    assert context.span_id not in (PARENT, "0" * 16)
    assert context.traceparent == f"00-{TRACE}-{context.span_id}-01".encode()
    assert context.sampled


@pytest.mark.parametrize(
    ("flags", "sampled"), [(b"00", False), (b"01", True), (b"02", False), (b"ff", True)]
)
def test_the_client_decides_what_is_sampled(flags: bytes, sampled: bool) -> None:
    for ratio in (0.0, 1.0):
        context = child_traceparent(GOOD[:-2] + flags, ratio, Random(1))
        assert context.sampled == sampled
        assert context.trace_id == TRACE
        assert context.traceparent.endswith(b"-01" if sampled else b"-00")


def test_a_later_version_may_say_more() -> None:
    assert child_traceparent(b"01" + GOOD[2:] + b"-more", 0.0, Random(1)).trace_id == TRACE
    assert child_traceparent(b"01" + GOOD[2:], 0.0, Random(1)).trace_id == TRACE


@pytest.mark.parametrize(
    "incoming",
    [
        None,
        b"",
        b"00",
        GOOD[:-1],
        GOOD + b"-more",
        GOOD + b" ",
        b"01" + GOOD[2:] + b"more",
        b"ff" + GOOD[2:],
        b"0g" + GOOD[2:],
        GOOD.upper(),
        GOOD.replace(b"-", b"_"),
        GOOD.replace(TRACE.encode(), b"0" * 32),
        GOOD.replace(PARENT.encode(), b"0" * 16),
        GOOD.replace(b"4bf9", b"4b-9"),
        GOOD.replace(b"4bf9", b"4b\r\n"),
        GOOD.replace(b"4bf9", "4bf\u0661".encode()),
        b"-" * 55,
    ],
)
def test_what_breaks_the_standard_begins_a_trace(incoming: bytes | None) -> None:
    context = child_traceparent(incoming, 0.0, Random(1))
    assert context.parent_id is None
    assert context.trace_id != TRACE
    assert FORM.fullmatch(context.traceparent)


def test_the_share_that_is_sampled() -> None:
    random = Random(7)

    def sampled(ratio: float) -> int:
        return sum(child_traceparent(None, ratio, random).sampled for _ in range(2000))

    assert sampled(0.0) == 0
    assert sampled(1.0) == 2000
    assert 140 < sampled(0.1) < 260


def test_ids_are_never_zero() -> None:
    class Zero:
        def getrandbits(self, k: int) -> int:
            return 0

        def random(self) -> float:
            return 0.0

    context = child_traceparent(None, 0.5, Zero())
    assert int(context.trace_id, 16) != 0
    assert int(context.span_id, 16) != 0
