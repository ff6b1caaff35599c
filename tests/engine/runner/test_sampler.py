"""The sampler of torch and that of the native kernels: one set of tests for both."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from shoal.engine.core.output import NewRequestData
from shoal.engine.runner.native_backend import SamplingRequest
from shoal.engine.runner.sampler import sample as torch_sample
from shoal.engine.runner.sampling_plan import SamplerOutput, SamplingPlan
from tests.engine.runner.plans import make_new, make_plan
from tests.kernels.cpu_library import INSTRUCTION_SETS, kernels
from tests.kernels.test_random_choice import chi_square

VOCAB = 300
Sample = Callable[[torch.Tensor, SamplingPlan], SamplerOutput]


def native_sample(library: ctypes.CDLL) -> Sample:
    def sample(logits: torch.Tensor, plan: SamplingPlan) -> SamplerOutput:
        request = SamplingRequest(np.arange(len(plan)), plan)
        logits = logits.contiguous()
        assert not library.shoal_sample_logits(request.struct, logits.data_ptr(), logits.shape[1])
        return request.output()

    return sample


@pytest.fixture(params=["torch", *INSTRUCTION_SETS])
def sample(request: pytest.FixtureRequest) -> Sample:
    return torch_sample if request.param == "torch" else native_sample(kernels(request.param))


def random_logits(num_rows: int, *, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(num_rows, VOCAB, generator=torch.Generator().manual_seed(seed))


def run(
    sample: Sample,
    logits: torch.Tensor,
    *requests: NewRequestData,
    rows: list[int] | None = None,
) -> SamplerOutput:
    plan = make_plan(*requests, vocab_size=logits.shape[1], rows=rows)
    return sample(logits.clone(), plan)


def test_temperature_zero_takes_the_best_token(sample: Sample) -> None:
    logits = random_logits(5)
    out = run(sample, logits, *[make_new(temperature=0.0)] * 5)
    assert out.token_ids.tolist() == logits.argmax(dim=-1).tolist()
    assert out.broken_rows == []


def test_greedy_and_random_rows_share_a_batch(sample: Sample) -> None:
    logits = random_logits(4)
    out = run(
        sample,
        logits,
        make_new(temperature=0.0),
        make_new(seed=1, top_k=1),
        make_new(temperature=0.0, logit_bias={17: 100.0}),
        make_new(seed=1, min_p=1.0),
    )
    best = logits.argmax(dim=-1).tolist()
    assert out.token_ids.tolist() == [best[0], best[1], 17, best[3]]


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 1.0},
        {"temperature": 0.5},
        {"temperature": 2.0},
        {"top_k": 5},
        {"top_p": 0.8},
        {"min_p": 0.1},
        {"temperature": 1.5, "top_k": 20, "top_p": 0.9, "min_p": 0.02},
    ],
)
def test_frequencies_match_the_exact_distribution(sample: Sample, params: dict[str, Any]) -> None:
    """4,000 positions of one seeded request; the distribution comes from sorted float64 maths."""
    num_draws = 4_000
    logits = random_logits(1) / 2
    requests = [make_new(seed=3, request_id=f"r{i}", **params) for i in range(num_draws)]
    plan = make_plan(*requests, vocab_size=VOCAB)
    plan = replace(plan, positions=np.arange(num_draws))
    drawn = sample(logits.expand(num_draws, -1).clone(), plan).token_ids
    counts = torch.bincount(torch.from_numpy(drawn), minlength=VOCAB)
    probs = exact_distribution(logits[0], **params)
    assert counts[probs == 0].sum() == 0
    # Pool the tail, where chi-square's approximation does not hold.
    rare = (probs > 0) & (probs * num_draws < 5)
    pooled_probs = torch.cat([probs[~rare], probs[rare].sum().view(1)])
    pooled_counts = torch.cat([counts[~rare], counts[rare].sum().view(1)])
    assert chi_square(pooled_counts, pooled_probs) < 5.0


def exact_distribution(
    logits: torch.Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> torch.Tensor:
    probs = (logits.double() / temperature).softmax(dim=-1)
    probs[probs < min_p * probs.max()] = 0.0
    order = probs.argsort(descending=True)
    if top_k:
        probs[order[top_k:]] = 0.0
    probs /= probs.sum()
    before = probs[order].cumsum(dim=0) - probs[order]
    probs[order[before >= top_p]] = 0.0
    return probs / probs.sum()


def test_a_seed_gives_the_same_token_in_any_row_of_any_batch(sample: Sample) -> None:
    logits = random_logits(8)
    request = make_new([1], [2, 3], seed=42, temperature=1.3, top_p=0.9)
    alone = run(sample, logits[3:4], request).token_ids.item()
    others = [
        make_new(temperature=0.0),
        make_new(seed=7, top_k=100),
        make_new(presence_penalty=1.0),
        request,
        make_new(top_p=0.999, temperature=5.0),
        make_new(logprobs=3),
        make_new(seed=42),
        make_new(min_p=0.5),
    ]
    batched = run(sample, logits, *others, rows=[5, 2, 7, 0, 1, 3, 6, 4]).token_ids[3].item()
    assert batched == alone


def test_seeds_of_any_size_are_taken(sample: Sample) -> None:
    logits = random_logits(4)
    seeds = [2**63, -(2**63), 2**200 + 5, 0]
    out = run(sample, logits, *[make_new(seed=seed) for seed in seeds])
    again = run(sample, logits, *[make_new(seed=seed) for seed in seeds])
    assert out.token_ids.tolist() == again.token_ids.tolist()


def test_unseeded_requests_differ(sample: Sample) -> None:
    logits = torch.zeros(40, VOCAB)
    assert len(set(run(sample, logits, *[make_new() for _ in range(40)]).token_ids.tolist())) > 20


def test_a_tiny_temperature_is_greedy_and_a_huge_one_is_flat(sample: Sample) -> None:
    logits = random_logits(1).expand(200, -1)
    cold = run(sample, logits, *[make_new(temperature=1e-6) for _ in range(200)]).token_ids
    hot = run(sample, logits, *[make_new(temperature=100.0) for _ in range(200)]).token_ids
    assert set(cold.tolist()) == {logits[0].argmax().item()}
    assert len(set(hot.tolist())) > 100


def test_logprobs_are_of_the_raw_distribution(sample: Sample) -> None:
    logits = random_logits(2)
    best = int(logits[1].argmax())
    out = run(
        sample,
        logits,
        make_new(temperature=0.0),
        make_new(temperature=0.0, logprobs=2, logit_bias={best: -100.0}),
    )
    expected = logits[1].log_softmax(dim=-1)
    report = out.logprobs[1]
    assert set(out.logprobs) == {1}
    assert report.token_ids[0] == out.token_ids[1] != best
    assert report.token_ids[1] == best
    assert report.rank == 2
    assert report.logprobs == pytest.approx([float(expected[t]) for t in report.token_ids])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_broken_rows_are_named_and_harm_nobody_else(
    sample: Sample, temperature: float, poison: float
) -> None:
    logits = random_logits(3)
    expected = logits.argmax(dim=-1)
    logits[1] = poison
    out = run(sample, logits, *[make_new(temperature=temperature, top_k=1) for _ in range(3)])
    assert out.broken_rows == [1]
    assert out.token_ids[[0, 2]].tolist() == expected[[0, 2]].tolist()
    assert 0 <= out.token_ids[1] < VOCAB


def test_a_token_that_is_not_a_number_is_never_chosen(sample: Sample) -> None:
    logits = random_logits(1)
    second, first = logits[0].topk(2).indices.flip(0).tolist()
    logits[0, first] = math.nan
    out = run(sample, logits, make_new(temperature=0.0))
    assert (out.token_ids.tolist(), out.broken_rows) == ([second], [0])


def test_a_forbidden_token_stays_forbidden_in_a_broken_row(sample: Sample) -> None:
    logits = torch.full((1, VOCAB), math.nan)
    logits[0, 7], logits[0, 9] = 5.0, 1.0
    out = run(sample, logits, make_new(temperature=0.0, min_tokens=1, stop_token_ids=[7]))
    assert out.token_ids.tolist() == [9]


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("vocab_size", [1, 31, 256, 257, 5_003])
def test_both_draw_the_same_tokens(isa: str, vocab_size: int) -> None:
    """One seed is one answer, whichever computes; a near tie may fall either way."""
    rng = np.random.default_rng(vocab_size)
    requests = [
        make_new(
            seed=i,
            temperature=float(rng.choice([0.2, 1.0, 3.0])),
            top_k=int(rng.choice([0, 1, 7, 200])),
            top_p=float(rng.choice([1.0, 0.9, 0.3])),
            min_p=float(rng.choice([0.0, 0.01, 0.5])),
            logprobs=int(rng.choice([0, 5])),
        )
        for i in range(400)
    ]
    logits = torch.from_numpy(3 * rng.standard_normal((400, vocab_size), dtype=np.float32))
    plan = make_plan(*requests, vocab_size=vocab_size)
    expected = torch_sample(logits.clone(), plan)
    found = native_sample(kernels(isa))(logits.clone(), plan)
    same = found.token_ids == expected.token_ids
    assert same.mean() >= 0.995
    for row in same.nonzero()[0].tolist():
        ours, theirs = found.logprobs[row], expected.logprobs[row]
        assert (ours.token_ids, ours.rank) == (theirs.token_ids, theirs.rank)
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=2e-5)
