"""Prompts have as many tokens as were asked for, as the server counts them."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.benchmarks.workload.tokens import PromptWriter, TokenPool
from shoal.benchmarks.workload.words import CANDIDATE_WORDS
from shoal.errors import ConfigError
from tests.benchmarks.workload.toy import IDS, make_pool, num_shared, tokens_of


@given(st.integers(1, 300), st.integers(0, 3), st.booleans())
def test_a_prompt_has_exactly_its_tokens(
    num_tokens: int, overhead: int, as_token_ids: bool
) -> None:
    writer = PromptWriter(make_pool(overhead=overhead), as_token_ids=as_token_ids)
    prompt = writer.prompt(Random(0), num_tokens)
    counted = len(tokens_of(prompt, overhead=overhead))
    least = 1 if as_token_ids else overhead + 1  # one token at least is ours
    assert counted == max(least, num_tokens)


@given(st.integers(1, 100), st.integers(2, 100), st.integers(0, 2), st.booleans())
def test_a_prompt_behind_a_prefix_has_the_tokens_of_both(
    num_prefix: int, num_own: int, overhead: int, as_token_ids: bool
) -> None:
    writer = PromptWriter(make_pool(overhead=overhead), as_token_ids=as_token_ids)
    one, other = (
        tokens_of(
            writer.prompt(Random(seed), num_own + 1, prefix=writer.prefix(Random(9), num_prefix)),
            overhead=overhead,
        )
        for seed in (1, 2)
    )
    assert len(one) == num_prefix + num_own + 1
    assert num_shared(one, other) >= num_prefix


def test_token_ids_come_from_the_pool() -> None:
    writer = PromptWriter(make_pool(overhead=2), as_token_ids=True)
    prompt = writer.prompt(Random(0), 50)
    assert isinstance(prompt, list)
    assert set(prompt) <= set(IDS)
    assert writer.overhead == 0, "a server adds nothing to token ids"


def test_a_part_of_a_prompt_leaves_out_what_the_server_adds() -> None:
    writer = PromptWriter(make_pool(overhead=1))
    assert len(tokens_of(writer.text(Random(0), 7))) == 7
    assert writer.text(Random(0), 0) == ""


def test_a_shorter_draw_is_the_beginning_of_a_longer_one() -> None:
    """Partial blocks of a trace rely on it."""
    writer = PromptWriter(make_pool())
    assert writer.text(Random(5), 100).startswith(writer.text(Random(5), 40) + " ")


def test_the_same_generator_writes_the_same_prompt() -> None:
    writer = PromptWriter(make_pool())
    assert writer.prompt(Random(4), 30) == writer.prompt(Random(4), 30)
    assert writer.prompt(Random(4), 30) != writer.prompt(Random(5), 30)


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(ConfigError, match="no words to write prompts with"):
        PromptWriter(TokenPool(words=[], token_ids=[]))
    with pytest.raises(ConfigError, match="has no /tokenize route"):
        PromptWriter(make_pool(with_ids=False), as_token_ids=True)


def test_the_candidate_words_are_many_and_different_and_plain() -> None:
    assert len(CANDIDATE_WORDS) >= 500
    assert len(set(CANDIDATE_WORDS)) == len(CANDIDATE_WORDS)
    assert all(word.isascii() and word.isalpha() and word.islower() for word in CANDIDATE_WORDS)
