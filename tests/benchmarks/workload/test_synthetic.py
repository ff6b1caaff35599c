"""Random prompts: exact, different from each other, and alike exactly where they should be."""

from __future__ import annotations

from typing import Any

import pytest

from shoal.benchmarks.workload.plan import Turn, Workload
from shoal.benchmarks.workload.spec import WorkloadSpec, build_workload
from shoal.errors import ConfigError
from tests.benchmarks.workload.toy import make_pool, num_shared, tokens_of


def make(overhead: int = 0, **spec: Any) -> Workload:
    return build_workload(WorkloadSpec(kind="synthetic", **spec), make_pool(overhead=overhead))


def only_turn(workload: Workload, index: int) -> Turn:
    session = workload.session(index)
    assert session.opening == ()
    assert session.num_opening_tokens == 0
    (turn,) = session.turns
    return turn


@pytest.mark.parametrize("overhead", [0, 1])
@pytest.mark.parametrize("as_token_ids", [False, True])
@pytest.mark.parametrize("prefix_len", [None, "20", "uniform:10-30"])
def test_the_plan_states_what_the_server_counts(
    overhead: int, as_token_ids: bool, prefix_len: str | None
) -> None:
    workload = make(
        overhead,
        input_len="uniform:1-9",
        output_len="uniform:1-9",
        prefix_len=prefix_len,
        as_token_ids=as_token_ids,
    )
    own_overhead = 0 if as_token_ids else overhead
    seen: set[int] = set()
    for index in range(50):
        turn = only_turn(workload, index)
        assert turn.num_prompt_tokens == len(tokens_of(turn.prompt, overhead=own_overhead))
        assert turn.max_tokens is not None
        assert 1 <= turn.max_tokens <= 9
        seen.add(turn.max_tokens)
    assert len(seen) > 3


def test_without_a_prefix_prompts_share_nothing() -> None:
    workload = make(input_len="64")
    prompts = [tokens_of(only_turn(workload, index).prompt) for index in range(60)]
    # Two words of 400 are alike by chance once in 160,000 pairs; there are 1,770.
    shared = [num_shared(a, b) for i, a in enumerate(prompts) for b in prompts[:i]]
    assert max(shared) <= 2


def test_with_a_prefix_the_groups_share_exactly_it() -> None:
    workload = make(input_len="40", prefix_len="100", num_prefixes=3)
    prompts = [tokens_of(only_turn(workload, index).prompt) for index in range(12)]
    for i, a in enumerate(prompts):
        for j, b in enumerate(prompts[:i]):
            if i % 3 == j % 3:
                assert 100 <= num_shared(a, b) <= 102
            else:
                assert num_shared(a, b) <= 2


@pytest.mark.parametrize("kind", ["synthetic", "system-prompts", "few-shot", "chat", "agent"])
def test_a_session_depends_on_spec_seed_and_index_alone(kind: str) -> None:
    def build(seed: int) -> Workload:
        return build_workload(WorkloadSpec(kind=kind, seed=seed), make_pool())

    forwards = [build(7).session(index) for index in range(6)]
    workload = build(7)
    backwards = [workload.session(index) for index in reversed(range(6))][::-1]
    assert forwards == backwards
    assert len({repr(session) for session in forwards}) == 6
    assert build(8).session(0) != forwards[0]
    assert workload.num_sessions is None
    assert workload.start_times() is None


@pytest.mark.parametrize("kind", ["synthetic", "few-shot"])
def test_another_seed_shares_no_prefix(kind: str) -> None:
    """Else the second repeat of a run would find the first one's prompts in the cache."""
    one, other = (
        tokens_of(
            build_workload(WorkloadSpec(kind=kind, seed=seed, prefix_len="64"), make_pool())
            .session(0)
            .turns[0]
            .prompt
        )
        for seed in (1, 2)
    )
    assert num_shared(one, other) <= 2


@pytest.mark.parametrize("num_prefixes", [0, -1])
def test_less_than_one_prefix_is_refused(num_prefixes: int) -> None:
    with pytest.raises(ConfigError, match=f"--num-prefixes is {num_prefixes}"):
        make(num_prefixes=num_prefixes)
