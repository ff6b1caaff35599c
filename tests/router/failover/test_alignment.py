"""Where a continuation begins, with a tokenizer of one token a byte."""

from __future__ import annotations

import pytest

from shoal.router.failover.alignment import MAX_DROPPED, Alignment

PROMPT = list(b"Say: ")


def run(told: str, token_ids: list[int], decode: object = None) -> Alignment:
    alignment = Alignment(PROMPT, token_ids, told)
    for _ in range(20):
        wanted = alignment.to_detokenize
        if wanted is None:
            return alignment
        alignment.answer(
            decode(wanted) if callable(decode) else bytes(wanted).decode("utf-8", "replace")
        )
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    ("told", "generated", "num_kept", "rest", "skip"),
    [
        ("abc", b"abc", 3, "", ""),
        ("ab", b"abc", 3, "c", ""),
        ("", b"abc", 3, "abc", ""),
        ("ab", "abé".encode()[:3], 2, "", ""),
        ("ab", "ab🎉".encode()[:5], 2, "", ""),
        ("a", "ab🎉".encode()[:5], 2, "b", ""),
        ("", "🎉".encode()[:2], 0, "", ""),
        ("abc", b"ab", 2, "", "c"),
        ("", b"", 0, "", ""),
        ("a\ufffd", b"a\xff", 2, "", ""),
    ],
)
def test_whole_characters_are_kept(
    told: str, generated: bytes, num_kept: int, rest: str, skip: str
) -> None:
    alignment = run(told, list(generated))
    assert alignment.failure == ""
    assert (alignment.num_kept, alignment.rest, alignment.skip) == (num_kept, rest, skip)


def test_a_first_blank_that_tokenizers_leave_out() -> None:
    """As of the SentencePiece family: a text's first blank is not decoded."""

    def decode(ids: list[int]) -> str:
        return bytes(ids).decode().removeprefix(" ")

    alignment = run(" hello", list(b" hello!"), decode)
    assert alignment.failure == ""
    assert (alignment.num_kept, alignment.rest) == (7, "!")
    assert run("", list(b" hello"), decode).rest == " hello"


def test_other_text_fails() -> None:
    assert "not that of the tokens" in run("xyz", list(b"abc")).failure


def test_broken_text_fails_after_a_bounded_number_of_calls() -> None:
    assert "no whole character" in run("", [0x80] * (MAX_DROPPED + 3)).failure


def test_text_without_tokens_fails() -> None:
    assert Alignment(PROMPT, [], "abc").failure
