"""What is done to logits: a token drawn, its logprob and rank."""

from __future__ import annotations

import torch

from shoal.kernels.sample import sample_tokens, sample_tokens_torch
from shoal.kernels.token_logprobs import token_logprobs, token_logprobs_torch
from tests.kernels.fuzz.draw import Draw
from tests.kernels.triton.closeness import assert_as_exact_as


def _logits(draw: Draw) -> torch.Tensor:
    rows = draw.size("num_rows", 3, gpu=60)
    return draw.normal(rows, draw.size("vocab_size", 400, gpu=40_000, least=1)) * 3


def sampling(draw: Draw) -> None:
    """The same tokens as the twin's, which computes on the CPU."""
    logits = _logits(draw).to(draw.float_dtype())
    rows, vocab = logits.shape

    def column(name: str, options: tuple[float, ...], dtype: torch.dtype) -> torch.Tensor:
        values = [options[i] for i in draw.integers(rows, 0, len(options) - 1)]
        draw.choices[name] = values
        return torch.tensor(values, dtype=dtype)

    parameters = {
        "temperature": column("temperature", (0.0, 0.3, 1.0, 2.0), torch.float32),
        "top_k": column("top_k", (0, 0, 1, 7, vocab), torch.int32),
        "top_p": column("top_p", (1.0, 1.0, 0.2, 0.9), torch.float32),
        "min_p": column("min_p", (0.0, 0.0, 0.01, 0.5), torch.float32),
        "seeds": torch.tensor(draw.integers(rows, -(2**63), 2**63 - 1), dtype=torch.int64),
        "positions": torch.tensor(draw.integers(rows, 0, 2**40), dtype=torch.int64),
    }
    expected = sample_tokens_torch(
        logits.cpu(), **parameters, broken=torch.zeros(rows, dtype=torch.bool)
    )
    there = {name: value.to(draw.device) for name, value in parameters.items()}
    assert sample_tokens(logits, **there).tolist() == expected.tolist()


def logprobs(draw: Draw) -> None:
    logits = _logits(draw)
    rows, vocab = logits.shape
    ids = torch.tensor(draw.integers(rows, 0, vocab - 1), dtype=torch.int64, device=draw.device)
    num_top = draw.size("num_top", min(vocab, 5))
    found = token_logprobs(logits, ids, num_top=num_top)
    expected = token_logprobs_torch(logits, ids, num_top=num_top)
    assert torch.equal(found.ranks, expected.ranks)
    assert torch.equal(found.token_ids, expected.token_ids)
    exact = logits.double().log_softmax(-1)
    assert_as_exact_as(expected.logprobs, found.logprobs, exact.gather(1, found.token_ids))
