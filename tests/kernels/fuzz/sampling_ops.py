"""Sampling, log-probabilities and edits of logits.

A draw is right when it is the twin's, from these logits or from some a few roundings away: two
tokens may be that close.
"""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from shoal.kernels.launch.sample import SampleConfig, sample_config
from shoal.kernels.logit_edits import EditBatch, edit_logits_, edit_logits_torch_
from shoal.kernels.sample import sample_tokens, sample_tokens_torch
from shoal.kernels.token_logprobs import token_logprobs, token_logprobs_torch
from tests.kernels.fuzz.draw import Draw
from tests.kernels.triton.closeness import assert_as_exact_as

NUM_NEIGHBOURS = 200
ROUNDINGS = 4 * torch.finfo(torch.float32).eps


def _logits(draw: Draw) -> Tensor:
    num_rows = draw.size("num_rows", 3, gpu=64, least=1)
    vocab_size = draw.size("vocab_size", 700, gpu=40_000, least=1)
    logits = draw.pick("spread", (0.1, 1.0, 4.0)) * draw.normal(num_rows, vocab_size)
    kind = draw.pick("kind", ("smooth", "ties", "masked", "broken"))
    if kind == "ties":
        logits = logits.round()
    elif kind in ("masked", "broken"):
        first = draw.integers(1, 0, vocab_size - 1)[0]
        logits[0, first:] = float("-inf") if kind == "masked" else float("nan")
    return logits.to(draw.float_dtype())


def _small_tiles(vocab_size: int) -> SampleConfig:
    """So that a few hundred tokens already are more than a program holds."""
    return replace(
        sample_config(vocab_size),
        max_candidates=16,  # in the memory of one block's samples
        blocks_per_turn=2,
        wide_blocks_per_turn=2,
        wide_warps=4,
        samples_per_block=8,
    )


def sampling(draw: Draw) -> None:
    logits = _logits(draw)
    num_rows, vocab_size = logits.shape

    def column(name: str, values: tuple[float, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        picked = [draw.pick(f"{name}.{row}", values) for row in range(num_rows)]
        return torch.tensor(picked, dtype=dtype, device=draw.device)

    def bits(count: int) -> Tensor:
        return torch.tensor(draw.integers(count, -(2**63), 2**63 - 1), device=draw.device)

    parameters = {
        "temperature": column("temperature", (0.0, 0.4, 1.0, 2.0)),
        "top_k": column("top_k", (0, 1, 5, 100, vocab_size, 2**31 - 1), torch.int32),
        "top_p": column("top_p", (1.0, 0.999, 0.9, 0.3, 1e-6)),
        "min_p": column("min_p", (0.0, 1e-4, 0.2, 1.0)),
        "seeds": bits(num_rows),
        "positions": bits(num_rows).abs(),
    }
    config = sample_config(vocab_size)
    if draw.flag("small_tiles"):
        config = _small_tiles(vocab_size)
    broken = torch.zeros(num_rows, dtype=torch.bool, device=draw.device)
    # numpy warns where exponents of broken rows become -inf, as they do on the GPU.
    with (
        np.errstate(over="ignore"),
        mock.patch("shoal.kernels.triton.sample.sample_config", return_value=config),
    ):
        found = sample_tokens(logits, **parameters, broken=broken)
    twin_broken = torch.zeros_like(broken)
    expected = sample_tokens_torch(logits, **parameters, broken=twin_broken)
    assert broken.tolist() == twin_broken.tolist(), "other rows are broken"
    for row in (found != expected).nonzero().squeeze(1).tolist():
        one = {name: values[row : row + 1] for name, values in parameters.items()}
        nearby = draws_nearby(logits[row], one)
        assert int(found[row]) in nearby, (
            f"row {row}: token {int(found[row])}, but the twin draws {int(expected[row])}"
            f" and {sorted(nearby)} from nearly the same logits"
        )


def draws_nearby(row: Tensor, parameters: dict[str, Tensor]) -> set[int]:
    """What the twin draws when every logit is off by a few roundings of the scores."""
    generator = torch.Generator().manual_seed(0)
    size = row.float().nan_to_num(0, 0, 0).abs().max().clamp(min=1.0)
    noise = torch.randn(NUM_NEIGHBOURS, len(row), generator=generator).to(row.device)
    logits = row.float() + ROUNDINGS * size * noise
    columns = {
        name: values.expand(NUM_NEIGHBOURS).contiguous() for name, values in parameters.items()
    }
    broken = torch.zeros(NUM_NEIGHBOURS, dtype=torch.bool, device=row.device)
    return set(sample_tokens_torch(logits, **columns, broken=broken).tolist())


def logprobs(draw: Draw) -> None:
    logits = _logits(draw)
    num_rows, vocab_size = logits.shape
    num_top = min(draw.pick("num_top", (0, 1, 3)), vocab_size)
    ids = torch.tensor(draw.integers(num_rows, 0, vocab_size - 1), device=draw.device)
    found = token_logprobs(logits, ids, num_top=num_top)
    expected = token_logprobs_torch(logits, ids, num_top=num_top)
    whole = expected.log_z.isfinite()
    assert found.log_z.isfinite().tolist() == whole.tolist(), "other rows are broken"
    assert found.ranks[whole].tolist() == expected.ranks[whole].tolist()
    exact = logits[whole].double().log_softmax(-1)
    log_z = logits[whole].double().logsumexp(-1)
    assert_as_exact_as(expected.log_z[whole], found.log_z[whole], log_z)
    # The masked ones are all -inf, which have no distance from each other.
    seen = exact.gather(1, found.token_ids[whole])
    finite = seen.isfinite()
    assert_as_exact_as(
        expected.logprobs[whole][finite], found.logprobs[whole][finite], seen[finite]
    )
    assert torch.equal(seen, exact.gather(1, expected.token_ids[whole])), "others are the best"


def edits(draw: Draw) -> None:
    logits = _logits(draw).float()
    num_rows, vocab_size = logits.shape
    rows: list[int] = []
    tokens: list[int] = []
    ends: list[int] = []
    for rule in range(4):
        count = draw.size(f"entries.{rule}", 9, gpu=900)
        named = list(
            zip(
                draw.integers(count, 0, num_rows - 1),
                draw.integers(count, 0, vocab_size - 1),
                strict=True,
            )
        )
        if rule == 0:
            named = sorted(set(named))
        rows += [row for row, _ in named]
        tokens += [token for _, token in named]
        ends.append(len(rows))
    batch = EditBatch(
        rows=torch.tensor(rows, dtype=torch.int32, device=draw.device),
        token_ids=torch.tensor(tokens, dtype=torch.int32, device=draw.device),
        # Powers of two, so that no order of additions rounds otherwise.
        values=torch.full((len(rows),), 0.5, device=draw.device),
        ends=(ends[0], ends[1], ends[2], ends[3]),
    )
    expected = logits.clone()
    edit_logits_torch_(expected, batch)
    edit_logits_(logits, batch)
    torch.testing.assert_close(logits, expected, rtol=1e-6, atol=1e-6, equal_nan=True)
