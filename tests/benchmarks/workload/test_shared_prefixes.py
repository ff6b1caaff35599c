"""System prompts of differing popularity, and worked examples before every question."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from shoal.benchmarks.workload.plan import Workload
from shoal.benchmarks.workload.shared_prefixes import zipf_choice
from shoal.benchmarks.workload.spec import WorkloadSpec, build_workload
from shoal.errors import ConfigError
from tests.benchmarks.workload.toy import make_pool, num_shared, tokens_of


def make(kind: str, overhead: int = 0, **spec: Any) -> Workload:
    return build_workload(WorkloadSpec(kind=kind, **spec), make_pool(overhead=overhead))


def test_popularity_falls_with_the_rank() -> None:
    rng = Random(0)
    counts = Counter(zipf_choice(rng, 4) for _ in range(25_000))
    # 1 + 1/2 + 1/3 + 1/4 = 25/12
    for rank in range(4):
        assert counts[rank] == pytest.approx(12_000 / (rank + 1), rel=0.06)
    assert set(counts) == {0, 1, 2, 3}
    assert zipf_choice(rng, 1) == 0


def test_system_prompts_are_few_and_questions_are_many() -> None:
    workload = make("system-prompts", input_len="30", prefix_len="uniform:50-90", num_prefixes=3)
    systems: Counter[str] = Counter()
    questions = set()
    for index in range(200):
        session = workload.session(index)
        ((role, content),) = ((m["role"], m["content"]) for m in session.opening)
        assert role == "system"
        assert session.num_opening_tokens == len(tokens_of(content))
        (turn,) = session.turns
        assert turn.role == "user"
        assert turn.num_prompt_tokens == len(tokens_of(turn.prompt)) == 30
        systems[content] += 1
        questions.add(str(turn.prompt))
    assert len(systems) == 3
    assert len(questions) == 200
    by_popularity = [count for _, count in systems.most_common()]
    assert by_popularity == pytest.approx([109, 55, 36], abs=25)
    contents = [tokens_of(content) for content in systems]
    assert max(num_shared(contents[a], contents[b]) for a, b in ((0, 1), (0, 2), (1, 2))) <= 2


@pytest.mark.parametrize("as_token_ids", [False, True])
def test_tasks_share_all_their_examples(as_token_ids: bool) -> None:
    workload = make(
        "few-shot",
        overhead=1,
        input_len="uniform:5-25",
        prefix_len="uniform:10-20",
        num_examples=5,
        num_prefixes=3,
        as_token_ids=as_token_ids,
    )
    overhead = 0 if as_token_ids else 1
    groups: dict[tuple[int, ...], list[int]] = {}
    for index in range(60):
        (turn,) = workload.session(index).turns
        tokens = tokens_of(turn.prompt, overhead=overhead)
        assert turn.num_prompt_tokens == len(tokens)
        assert 5 * 10 + 5 <= len(tokens) <= 5 * 20 + 25
        groups.setdefault(tuple(tokens[: 5 * 10]), []).append(index)
    assert len(groups) == 3
    assert min(map(len, groups.values())) > 5


def test_each_example_has_its_own_length() -> None:
    """Five examples of 10 to 20 tokens: their sum varies less than five times one of them."""
    sums = set()
    for seed in range(300):
        workload = make("few-shot", seed=seed, input_len="1", prefix_len="uniform:10-20",
                        num_examples=5, num_prefixes=1)  # fmt: skip
        tokens = workload.session(0).turns[0].num_prompt_tokens
        assert tokens is not None
        sums.add(tokens - 1)
    assert min(sums) >= 50
    assert max(sums) <= 100
    assert any(total % 5 for total in sums)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("system-prompts", "num_prefixes"),
        ("few-shot", "num_prefixes"),
        ("few-shot", "num_examples"),
    ],
)
def test_less_than_one_is_refused(kind: str, field: str) -> None:
    with pytest.raises(ConfigError, match=f"--{field.replace('_', '-')} is 0"):
        make(kind, **{field: 0})
