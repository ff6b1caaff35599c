from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shoal.benchmarks.fake_worker import tokens

answers = st.lists(st.integers(0, len(tokens.ANSWER_PIECES) - 1), max_size=30)


@given(answers)
def test_an_answer_is_read_as_the_tokens_it_was(token_ids: list[int]) -> None:
    assert tokens.encode(tokens.decode(token_ids)) == token_ids


@given(st.text(alphabet="ab .,!ü\n", max_size=40).map(str.strip), answers)
def test_prompt_and_answer_do_not_melt_together(prompt: str, token_ids: list[int]) -> None:
    whole = tokens.encode(prompt + tokens.decode(token_ids))
    assert whole == tokens.encode(prompt) + token_ids


@given(st.text(max_size=60))
def test_every_text_has_tokens_in_the_vocabulary(text: str) -> None:
    token_ids = tokens.encode(text)
    assert all(0 <= token_id < tokens.VOCABULARY for token_id in token_ids)
    assert bool(token_ids) == bool(text)


@given(st.lists(st.integers(0, 50_000), max_size=20), st.integers(0, 50_000))
def test_a_digest_can_be_extended(token_ids: list[int], last: int) -> None:
    assert tokens.extend(tokens.digest(token_ids), last) == tokens.digest([*token_ids, last])


def test_answers_vary() -> None:
    state, seen = tokens.digest([1, 2, 3]), set()
    for _ in range(200):
        token_id = tokens.next_token(state)
        state = tokens.extend(state, token_id)
        seen.add(token_id)
    assert len(seen) > 100
