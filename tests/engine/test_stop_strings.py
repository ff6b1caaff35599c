"""Stop strings, whatever way the text is cut into pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.engine.stop_strings import StopStringMatcher


def feed_all(
    pieces: list[str], stop: list[str], *, include: bool = False
) -> tuple[str, str | None]:
    """Everything shown, and the stop string that ended it."""
    matcher = StopStringMatcher(stop, include_in_output=include)
    shown = ""
    for piece in pieces:
        text, matched = matcher.feed(piece)
        shown += text
        if matched is not None:
            return shown, matched
    return shown + matcher.finish(), None


@pytest.mark.parametrize(
    ("pieces", "stop", "shown", "matched"),
    [
        (["hello"], ["x"], "hello", None),
        (["one STOP two"], ["STOP"], "one ", "STOP"),
        (["one S", "TO", "P two"], ["STOP"], "one ", "STOP"),
        (["one ST", "ART"], ["STOP"], "one START", None),
        (["ends in ST"], ["STOP"], "ends in ST", None),
        (["STOP"], ["STOP"], "", "STOP"),
        (["aab"], ["ab"], "a", "ab"),
        (["a", "a", "b"], ["ab"], "a", "ab"),
        (["abc"], ["abc", "b"], "a", "b"),  # "b" ends first
        (["abc"], ["bc", "abc"], "", "abc"),  # they end together: the longer one
        (["日本", "語"], ["本語"], "日", "本語"),
    ],
)
def test_cases(pieces: list[str], stop: list[str], shown: str, matched: str | None) -> None:
    assert feed_all(pieces, stop) == (shown, matched)


def test_included_stop_string_ends_the_output() -> None:
    assert feed_all(["a<", "/s>b"], ["</s>"], include=True) == ("a</s>", "</s>")


def test_holds_back_no_more_than_it_must() -> None:
    matcher = StopStringMatcher(["END"], include_in_output=False)
    assert matcher.feed("an EN") == ("an ", None)
    assert matcher.feed("E") == ("EN", None)  # the E may begin END again
    assert matcher.feed("x") == ("Ex", None)


@given(
    text=st.text("ab", max_size=30),
    stop=st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 30)),
    include=st.booleans(),
)
def test_the_cut_into_pieces_changes_nothing(
    text: str, stop: list[str], cuts: list[int], include: bool
) -> None:
    borders = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(borders)]
    assert feed_all(pieces, stop, include=include) == feed_all(list(text), stop, include=include)


@given(text=st.text("ab", max_size=30), stop=st.text("ab", min_size=1, max_size=4))
def test_one_stop_string_agrees_with_partition(text: str, stop: str) -> None:
    before, found, _ = text.partition(stop)
    assert feed_all(list(text), [stop]) == (before, found or None)
