"""The loads, and how they are chosen."""

from __future__ import annotations

import pytest

from shoal.benchmarks.peers.standard_set import (
    STANDARD_SET,
    LoadCase,
    LongPromptCase,
    choose_cases,
)
from shoal.errors import ConfigError


def test_cases_come_in_the_order_of_the_set_whatever_was_typed() -> None:
    assert [case.name for case in choose_cases(["offline", "c8"], quick=False)] == ["c8", "offline"]


def test_all_cases_unless_some_are_named() -> None:
    assert choose_cases(None, quick=False) == list(STANDARD_SET)


def test_an_unknown_case_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no case 'c16'; there are c1, c8, c32, offline"):
        choose_cases(["c1", "c16"], quick=False)


def test_quick_loads_are_smaller_but_keep_their_concurrency() -> None:
    for full, quick in zip(STANDARD_SET, choose_cases(None, quick=True), strict=True):
        assert quick.name == full.name
        assert quick.output_tokens == full.output_tokens // 4
        assert quick.input_tokens == full.input_tokens
        if isinstance(quick, LoadCase):
            assert isinstance(full, LoadCase)
            assert quick.concurrency == full.concurrency
            assert quick.concurrency <= quick.num_requests <= full.num_requests
            assert quick.prefix_tokens == full.prefix_tokens


def test_the_long_prompt_arrives_while_the_decodes_still_have_tokens_to_write() -> None:
    for quick in (False, True):
        (case,) = choose_cases(["longprompt"], quick=quick)
        assert isinstance(case, LongPromptCase)
        assert case.output_tokens > 10 * case.chunks_before
