"""The sampling programs draw the tokens that the torch twin draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from shoal.kernels.dispatch import triton_on_cpu
from shoal.kernels.sample import sample_tokens, sample_tokens_torch

Params = dict[str, Any]

RULES: list[Params] = [
    {"temperature": 0.0},
    {"temperature": 1.0},
    {"temperature": 0.3},
    {"temperature": 1.0, "top_k": 1},
    {"temperature": 1.0, "top_k": 7},
    {"temperature": 1.0, "top_p": 0.8},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 1.5, "top_k": 40, "top_p": 0.9, "min_p": 0.01},
    {"temperature": 2.0, "top_p": 0.95, "min_p": 0.001},
]


@pytest.fixture(autouse=True)
def triton() -> Iterator[None]:
    with triton_on_cpu():
        yield


def columns(rules: list[Params], *, seed: int = 0) -> dict[str, Tensor]:
    """The parameters of one row each; seeds of all 64 bits."""

    def column(name: str, default: float, dtype: torch.dtype) -> Tensor:
        return torch.tensor([rule.get(name, default) for rule in rules], dtype=dtype)

    generator = torch.Generator().manual_seed(seed)
    return {
        "temperature": column("temperature", 1.0, torch.float32),
        "top_k": column("top_k", 0, torch.int32),
        "top_p": column("top_p", 1.0, torch.float32),
        "min_p": column("min_p", 0.0, torch.float32),
        "seeds": torch.randint(-(2**63), 2**63 - 1, (len(rules),), generator=generator),
        "positions": torch.randint(0, 2**40, (len(rules),), generator=generator),
    }


def both(
    logits: Tensor, parameters: dict[str, Tensor], device: torch.device, **hints: bool
) -> tuple[list[int], list[int]]:
    """What the programs draw, and what the twin does; they must also agree on broken rows."""
    broken = torch.zeros(len(logits), dtype=torch.bool)
    expected = sample_tokens_torch(logits, **parameters, broken=broken)
    found_broken = torch.zeros_like(broken).to(device)
    found = sample_tokens(
        logits.to(device),
        **{name: column.to(device) for name, column in parameters.items()},
        broken=found_broken,
        **hints,
    )
    assert found_broken.tolist() == broken.tolist()
    return found.tolist(), expected.tolist()


def random_logits(num_rows: int, vocab_size: int, *, spread: float = 3.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(num_rows, vocab_size, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("vocab_size", [1, 2, 255, 256, 257, 1031])
def test_draws_what_the_twin_draws(
    vocab_size: int, dtype: torch.dtype, device: torch.device
) -> None:
    logits = random_logits(len(RULES), vocab_size, seed=vocab_size).to(dtype)
    found, expected = both(logits, columns(RULES, seed=vocab_size), device)
    assert found == expected


def test_hints_change_nothing(device: torch.device) -> None:
    logits = random_logits(2, 300)
    greedy, plain = columns([{"temperature": 0.0}] * 2), columns([{"temperature": 0.7}] * 2)
    for parameters, hints in (
        (greedy, {"all_greedy": True}),
        (greedy, {"none_filtered": True}),
        (plain, {"none_filtered": True}),
    ):
        found, expected = both(logits, parameters, device, **hints)
        assert found == expected


def test_rows_may_be_a_strided_view(device: torch.device) -> None:
    wide = random_logits(4, 700)
    for logits in (wide[::2, :333], wide[:2, 5:338], wide.t()[:333, :2].t()):
        found, expected = both(logits, columns([{}, {"top_k": 3}]), device)
        assert found == expected


def test_no_rows(device: torch.device) -> None:
    assert both(torch.zeros(0, 9), columns([]), device) == ([], [])


def test_logits_stay_as_they_are(device: torch.device) -> None:
    logits = random_logits(2, 300).to(device)
    logits[0, 3] = math.nan
    before = logits.clone()
    parameters = {name: column.to(device) for name, column in columns([{}, {}]).items()}
    sample_tokens(logits, **parameters)
    torch.testing.assert_close(logits, before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda row: row.fill_(math.nan),
        lambda row: row.fill_(-math.inf),
        lambda row: row.fill_(math.inf),
        lambda row: row[40:50].fill_(math.nan),
        lambda row: row[7::393].fill_(math.inf),
        lambda row: row[:256].fill_(-math.inf),
        lambda row: (row.fill_(-math.inf), row[300:].fill_(math.nan)),
    ],
    ids=["nan", "-inf", "inf", "some-nan", "some-inf", "block-of--inf", "nan-and--inf"],
)
def test_rows_that_are_no_numbers(
    spoil: Callable[[Tensor], object], temperature: float, device: torch.device
) -> None:
    logits = random_logits(3, 421)
    spoil(logits[1])
    found, expected = both(logits, columns([{"temperature": temperature}] * 3), device)
    assert found == expected
    assert 0 <= found[1] < 421


def test_ties_with_the_last_kept_token_are_kept(device: torch.device) -> None:
    """Logits of bf16 tie by the dozen, also across blocks; every tied token must come up."""
    logits = torch.full((30, 600), -5.0)
    logits[:, [3, 200, 300, 599]] = 1.0
    rules: list[Params] = [{"top_k": 2}, {"top_p": 0.3}, {"top_k": 3, "top_p": 0.1}] * 10
    found, expected = both(logits, columns(rules), device)
    assert found == expected
    assert set(found) == {3, 200, 300, 599}


@pytest.mark.parametrize("vocab_size", [300, 1500])
@pytest.mark.parametrize("num_kept", [1, 2, 30, 257])
def test_cutoffs_are_exact(num_kept: int, vocab_size: int, device: torch.device) -> None:
    """Seeds whose draw shows whether one token more or less is kept, for each rule."""
    logits = random_logits(1, vocab_size, spread=0.7)
    weights = (logits[0] - logits.max()).double().exp().sort(descending=True).values
    share = weights.cumsum(0) / weights.sum()

    def top_p(num: int) -> float:  # a share that is reached inside the last kept token
        return float(share[num - 1] - 0.5 * weights[num - 1] / weights.sum())

    def min_p(num: int) -> float:
        return float((weights[num - 1] * weights[num]).sqrt())

    numbers = (num_kept, num_kept + 1)
    for rules in (
        [{"top_k": num} for num in numbers],
        [{"top_p": top_p(num)} for num in numbers],
        [{"min_p": min_p(num)} for num in numbers],
        [{"top_k": 280, "top_p": float(share[num - 1] - 0.5 * weights[num - 1] / weights.sum())
          / float(share[279])} for num in numbers],
    ):  # fmt: skip
        rows = telling_rows(logits, rules)
        found, expected = both(logits.expand(len(rows["seeds"]), -1), rows, device)
        assert found == expected


def telling_rows(logits: Tensor, rules: list[Params], *, num_seeds: int = 2) -> dict[str, Tensor]:
    """Rows of both rules with the same seeds, chosen so that the rules' draws differ."""
    num_tried = 3000
    tried = []
    for rule in rules:
        parameters = columns([rule] * num_tried)
        broken = torch.zeros(num_tried, dtype=torch.bool)
        drawn = sample_tokens_torch(logits.expand(num_tried, -1), **parameters, broken=broken)
        tried.append((parameters, drawn))
    telling = (tried[0][1] != tried[1][1]).nonzero().squeeze(1)[:num_seeds]
    assert len(telling) == num_seeds
    return {
        name: torch.cat([parameters[name][telling] for parameters, _ in tried])
        for name in tried[0][0]
    }


@pytest.mark.parametrize(
    "rule",
    [{"top_p": 0.9}, {"top_k": 2700}, {"top_k": 2700, "top_p": 0.9}, {"top_p": 0.9, "min_p": 0.01}],
    ids=str,
)
def test_rows_with_more_candidates_than_a_program_holds(rule: Params, device: torch.device) -> None:
    logits = random_logits(1, 3000, spread=0.7)
    looser = {**rule, **({"top_p": 0.91} if "top_p" in rule else {"top_k": 2800})}
    rows = telling_rows(logits, [rule, looser], num_seeds=1)
    found, expected = both(logits.expand(len(rows["seeds"]), -1), rows, device)
    assert found == expected


def test_all_equal_logits(device: torch.device) -> None:
    rules: list[Params] = [{"top_k": 5}, {"top_p": 0.5}, {"min_p": 1.0}]
    found, expected = both(torch.zeros(3, 2600), columns(rules), device)
    assert found == expected


def test_a_row_depends_on_nothing_but_itself(device: torch.device) -> None:
    """One row alone is cut over more programs than many rows are."""
    logits, parameters = random_logits(9, 2100), columns(RULES)
    together, _ = both(logits, parameters, device)
    for row in (1, 7):
        own = {name: column[row : row + 1] for name, column in parameters.items()}
        assert both(logits[row : row + 1], own, device)[0] == together[row : row + 1]


@pytest.mark.gpu
@pytest.mark.parametrize("vocab_size", [32000, 50257, 128256, 151936, 262144])
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_vocabularies_of_models(vocab_size: int, spread: float, device: torch.device) -> None:
    """A near tie may fall either way, as exp differs in the last bit: 1 row of 500."""
    rules = [*RULES, {"top_p": 0.999}, {"top_k": 5000, "top_p": 0.9}, {"min_p": 1e-7}] * 40
    logits = random_logits(len(rules), vocab_size, spread=spread)
    found, expected = both(logits, columns(rules), device)
    differ = [i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b]
    assert len(differ) <= len(rules) // 200, [rules[i] for i in differ]


@pytest.mark.gpu
def test_a_graph_replays_it(device: torch.device) -> None:
    """Nothing waits for the host, and new values in the same tensors give new tokens."""
    logits = random_logits(9, 50_000).to(device)
    parameters = {name: column.to(device) for name, column in columns(RULES).items()}
    sample_tokens(logits, **parameters)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        tokens = sample_tokens(logits, **parameters)
    for seed in range(3):
        logits.copy_(random_logits(9, 50_000, seed=seed))
        for name, column in columns(RULES, seed=seed).items():
            parameters[name].copy_(column)
        graph.replay()
        expected = sample_tokens(logits, **parameters)
        assert tokens.tolist() == expected.tolist()
