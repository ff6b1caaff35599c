"""The sampling programs draw the tokens that the torch twin draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from shoal.kernels.dispatch import triton_on_cpu
from shoal.kernels.launch.sample import sample_config
from shoal.kernels.sample import sample_tokens, sample_tokens_torch
from tests.kernels.fuzz.sampling_ops import draws_nearby

# numpy's, of exponents of broken rows: they become -inf, as on the GPU.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")

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


def on_gpu(*cases: object) -> list[object]:
    """Cases that take too long where Triton is interpreted, up to a second a row."""
    return [pytest.param(case, marks=pytest.mark.gpu) for case in cases]


@pytest.mark.parametrize("vocab_size", [257, *on_gpu(1, 2, 255, 256, 1031)])
def test_draws_what_the_twin_draws(vocab_size: int, device: torch.device) -> None:
    logits = random_logits(len(RULES), vocab_size, seed=vocab_size)
    found, expected = both(logits, columns(RULES, seed=vocab_size), device)
    assert found == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("vocab_size", [1, 255, 256])
def test_narrow_logits(vocab_size: int, dtype: torch.dtype, device: torch.device) -> None:
    logits = random_logits(3, vocab_size, seed=vocab_size).to(dtype)
    found, expected = both(logits, columns([{"temperature": 0.0}, {}, {"min_p": 0.1}]), device)
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
        found, expected = both(logits, columns([{}, {"temperature": 0.0}]), device)
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
    logits = torch.full((1, 600), -5.0)
    tied = [3, 200, 300, 599]
    logits[:, tied] = 1.0
    for rule in ({"top_k": 2}, {"top_p": 0.3}):
        parameters, drawn = many_draws(logits, rule, num_draws=100)
        rows = [drawn.tolist().index(token) for token in tied]
        parameters = {name: column[rows] for name, column in parameters.items()}
        found, expected = both(logits.expand(len(rows), -1), parameters, device)
        assert found == expected == tied


@pytest.mark.parametrize("vocab_size", [300, *on_gpu(1500)])
@pytest.mark.parametrize("num_kept", [30, *on_gpu(1, 2, 257)])
def test_cutoffs_are_exact(num_kept: int, vocab_size: int, device: torch.device) -> None:
    """Seeds whose draw shows whether one token more or less is kept, for each rule."""
    logits = random_logits(1, vocab_size, spread=0.7)
    weights = (logits[0] - logits.max()).double().exp().sort(descending=True).values
    mass = weights.cumsum(0)

    def top_p(num: int, *, top_k: int = 0) -> Params:  # reached inside the last token to be kept
        return {
            "top_k": top_k,
            "top_p": float((mass[num - 1] - weights[num - 1] / 2) / mass[top_k - 1]),
        }

    def min_p(num: int) -> Params:
        return {"min_p": float((weights[num - 1] * weights[num]).sqrt())}

    numbers = (num_kept, num_kept + 1)
    for rules in (
        [{"top_k": num} for num in numbers],
        [top_p(num) for num in numbers],
        [min_p(num) for num in numbers],
        [top_p(num, top_k=280) for num in numbers],
    ):
        rows = telling_rows(logits, rules)
        found, expected = both(logits.expand(len(rows["seeds"]), -1), rows, device)
        assert found == expected


def telling_rows(logits: Tensor, rules: list[Params]) -> dict[str, Tensor]:
    """A row for each of two rules, whose draws from the same seed differ."""
    (first, drawn), (second, drawn_too) = (many_draws(logits, rule) for rule in rules)
    row = (drawn != drawn_too).nonzero()[0, 0]
    return {name: torch.stack([first[name][row], second[name][row]]) for name in first}


def many_draws(
    logits: Tensor, rule: Params, *, num_draws: int = 3000
) -> tuple[dict[str, Tensor], Tensor]:
    """What the twin draws from one row with as many seeds, and the parameters of each."""
    parameters = columns([rule] * num_draws)
    broken = torch.zeros(num_draws, dtype=torch.bool)
    logits = logits.expand(num_draws, -1)
    return parameters, sample_tokens_torch(logits, **parameters, broken=broken)


WIDE_RULES: list[Params] = [
    {"top_k": 470, "top_p": 0.9},
    {"top_p": 0.9, "min_p": 0.01},
    {"top_k": 470},
    {"top_p": 0.9},
]


@pytest.mark.parametrize("rule", [*WIDE_RULES[:2], *on_gpu(*WIDE_RULES[2:])], ids=str)
def test_rows_with_more_candidates_than_a_program_holds(
    rule: Params, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for few, so that a few hundred tokens take several passes."""
    narrow = replace(
        sample_config(520),
        max_candidates=32,
        blocks_per_turn=2,
        wide_blocks_per_turn=2,
        samples_per_block=8,
    )
    monkeypatch.setattr("shoal.kernels.triton.sample.sample_config", lambda *_: narrow)
    logits = random_logits(1, 520, spread=0.7)
    looser = {**rule, **({"top_p": 0.92} if "top_p" in rule else {"top_k": 480})}
    rows = telling_rows(logits, [rule, looser])
    found, expected = both(logits.expand(2, -1), rows, device)
    assert found == expected


@pytest.mark.gpu
@pytest.mark.parametrize("rule", [{"top_p": 0.9}, {"top_k": 2700, "top_p": 0.9}], ids=str)
def test_rows_of_a_flat_distribution(rule: Params, device: torch.device) -> None:
    logits = random_logits(1, 30_000, spread=0.7)
    rows = telling_rows(logits, [rule, {**rule, "top_p": 0.91}])
    found, expected = both(logits.expand(2, -1), rows, device)
    assert found == expected


@pytest.mark.parametrize("vocab_size", [600, *on_gpu(128_256)])
def test_all_equal_logits(vocab_size: int, device: torch.device) -> None:
    rules: list[Params] = [{"top_k": 5}, {"top_p": 0.5}]
    found, expected = both(torch.zeros(2, vocab_size), columns(rules), device)
    assert found == expected


def test_a_row_depends_on_nothing_but_itself(device: torch.device) -> None:
    """One row alone is cut over more programs than many rows are."""
    logits, parameters = random_logits(9, 700), columns(RULES)
    together, _ = both(logits, parameters, device)
    for row in (1, 8):
        own = {name: column[row : row + 1] for name, column in parameters.items()}
        assert both(logits[row : row + 1], own, device)[0] == together[row : row + 1]


@pytest.mark.gpu
@pytest.mark.parametrize("vocab_size", [50257, 128256, 262144])
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_vocabularies_of_models(vocab_size: int, spread: float, device: torch.device) -> None:
    rules = [*RULES, {"top_p": 0.999}, {"top_k": 5000, "top_p": 0.9}, {"min_p": 1e-7}] * 10
    logits, parameters = random_logits(len(rules), vocab_size, spread=spread), columns(rules)
    found, expected = both(logits, parameters, device)
    for row in range(len(rules)):
        if found[row] != expected[row]:  # a near tie may fall either way
            own = {name: column[row : row + 1] for name, column in parameters.items()}
            assert found[row] in draws_nearby(logits[row], own), rules[row]


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
