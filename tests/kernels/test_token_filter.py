from __future__ import annotations

import pytest
import torch

from shoal.kernels.token_filter import filter_weights_


def naive_keep(weights: list[float], *, top_k: int, top_p: float, min_p: float) -> set[int]:
    """The rules one token at a time, in exact order; weights differ from each other."""
    order = sorted(range(len(weights)), key=lambda i: -weights[i])
    order = [i for i in order if weights[i] >= min_p * weights[order[0]]]
    order = order[:top_k] if top_k else order
    total = sum(weights[i] for i in order)
    kept, mass = set(), 0.0
    for i in order:
        if kept and top_p < 1.0 and mass >= top_p * total:
            break
        kept.add(i)
        mass += weights[i]
    return kept


def kept(
    weights: torch.Tensor, *, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> list[set[int]]:
    weights = weights.clone()
    num_rows = len(weights)
    filter_weights_(
        weights,
        top_k=torch.full((num_rows,), top_k),
        top_p=torch.full((num_rows,), top_p),
        min_p=torch.full((num_rows,), min_p),
    )
    return [set(row.nonzero().squeeze(1).tolist()) for row in weights]


def random_weights(num_rows: int, num_tokens: int, *, spread: float) -> torch.Tensor:
    scores = torch.randn(num_rows, num_tokens, generator=torch.Generator().manual_seed(0)) * spread
    return (scores - scores.amax(dim=1, keepdim=True)).exp()


@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("top_k", [0, 1, 5, 1024, 1025, 3000, 10_000])
@pytest.mark.parametrize(
    ("top_p", "min_p"), [(1.0, 0.0), (0.5, 0.0), (0.95, 0.05), (1.0, 0.3), (0.01, 0.0)]
)
def test_keeps_what_the_naive_rules_keep(
    spread: float, top_k: int, top_p: float, min_p: float
) -> None:
    weights = random_weights(2, 3_000, spread=spread)
    expected = [naive_keep(row, top_k=top_k, top_p=top_p, min_p=min_p) for row in weights.tolist()]
    assert kept(weights, top_k=top_k, top_p=top_p, min_p=min_p) == expected


def test_rows_have_their_own_rules() -> None:
    weights = random_weights(4, 2_000, spread=1.0)
    rules = [(3, 1.0, 0.0), (0, 0.9, 0.0), (0, 1.0, 0.2), (0, 1.0, 0.0)]
    filtered = weights.clone()
    filter_weights_(
        filtered,
        top_k=torch.tensor([k for k, _, _ in rules]),
        top_p=torch.tensor([p for _, p, _ in rules]),
        min_p=torch.tensor([m for _, _, m in rules]),
    )
    for row, out, (top_k, top_p, min_p) in zip(weights, filtered, rules, strict=True):
        expected = naive_keep(row.tolist(), top_k=top_k, top_p=top_p, min_p=min_p)
        assert set(out.nonzero().squeeze(1).tolist()) == expected
        assert torch.equal(out[out > 0], row[out > 0])


def test_ties_with_the_last_kept_token_are_kept() -> None:
    weights = torch.tensor([[1.0, 0.5, 0.5, 0.5, 0.1]])
    assert kept(weights, top_k=2) == [{0, 1, 2, 3}]
    assert kept(weights, top_p=0.5) == [{0, 1, 2, 3}]


def test_one_token_is_always_left() -> None:
    weights = torch.tensor([[0.2, 1.0, 0.9]])
    assert kept(weights, top_p=1e-6) == [{1}]
    assert kept(weights, min_p=1.0) == [{1}]
