"""Sampling of 256 rows of Llama-3's vocabulary, by one rule or all; of one row; log-probabilities.

Two distributions. *model*: a law of Zipf with noise, which keeps some dozens of tokens at a top_p
of 0.9, as models mostly do. *flat*: normal logits, as FlashInfer's benchmarks draw them, of which a
top_p of 0.9 keeps half the vocabulary. The floor is one read of the logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from shoal.kernels.sample import sample_tokens
from shoal.kernels.token_logprobs import token_logprobs

from .case import Call, Case

VOCAB = 128_256
NUM_ROWS = 256
TARGET_US = 150
"""For all rules at once, in fp32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    name: str
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    @property
    def is_filtered(self) -> bool:
        return self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0


GREEDY = Rule(name="greedy", temperature=0.0)
PLAIN = Rule(name="temperature")
TOP_P = Rule(name="top_p", temperature=0.6, top_p=0.9)
ALL = Rule(name="all_rules", temperature=0.7, top_k=50, top_p=0.9, min_p=0.01)


def cases(device: torch.device) -> Iterator[Case]:
    logits = [_model_logits(NUM_ROWS, seed, device) for seed in range(3)]
    for rule in (GREEDY, PLAIN, TOP_P, ALL):
        yield _sampling(logits, rule, "model")
    yield _logprobs(logits)
    yield _sampling([x.bfloat16() for x in logits], ALL, "model")
    del logits
    yield _sampling([_flat_logits(NUM_ROWS, seed, device) for seed in range(3)], TOP_P, "flat")
    yield _sampling([_model_logits(1, seed, device) for seed in range(200)], ALL, "model")


def _flat_logits(num_rows: int, seed: int, device: torch.device) -> Tensor:
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(num_rows, VOCAB, device=device, generator=generator)


def _model_logits(num_rows: int, seed: int, device: torch.device) -> Tensor:
    noise = _flat_logits(num_rows, seed, device)
    rank = noise.roll(1, dims=1).argsort(dim=1) + 1
    return 15 - 1.6 * rank.log() + 0.3 * noise


def _sampling(logits: list[Tensor], rule: Rule, distribution: str) -> Case:
    num_rows, device = logits[0].shape[0], logits[0].device

    def column(value: float, dtype: torch.dtype) -> Tensor:
        return torch.full((num_rows,), value, dtype=dtype, device=device)

    columns = {
        "temperature": column(rule.temperature, torch.float32),
        "top_k": column(rule.top_k, torch.int32),
        "top_p": column(rule.top_p, torch.float32),
        "min_p": column(rule.min_p, torch.float32),
        "seeds": torch.arange(num_rows, device=device),
        "positions": torch.arange(num_rows, device=device),
    }

    def ours(i: int) -> object:
        return sample_tokens(
            logits[i],
            **columns,
            all_greedy=rule.temperature == 0.0,
            none_filtered=not rule.is_filtered,
        )

    return Case(
        name=f"sample/{num_rows}x{VOCAB}-{_name(logits)}-{distribution}-{rule.name}",
        call=ours,
        bytes_moved=logits[0].nbytes + num_rows * (32 + 8),
        num_inputs=len(logits),
        peers=_peers(logits, rule),
        target=_target(logits, rule),
    )


def _target(logits: list[Tensor], rule: Rule) -> float | None:
    """The share of the floor's rate that 150 us are, at 3 TB/s."""
    if rule is not ALL or logits[0].shape[0] < NUM_ROWS:
        return None
    return logits[0].nbytes / 3e12 / (TARGET_US * 1e-6)


def _logprobs(logits: list[Tensor]) -> Case:
    num_rows, num_top = logits[0].shape[0], 5
    token_ids = [x.argmax(dim=1) for x in logits]

    def torch_ops(i: int) -> object:
        x = logits[i].float()
        chosen = x.gather(1, token_ids[i].unsqueeze(1))
        return x.logsumexp(1), chosen, (x > chosen).sum(1), x.topk(num_top, dim=1)

    return Case(
        name=f"token_logprobs/{num_rows}x{VOCAB}-{_name(logits)}-top{num_top}",
        call=lambda i: token_logprobs(logits[i], token_ids[i], num_top=num_top),
        bytes_moved=logits[0].nbytes + num_rows * (1 + num_top) * 12,
        num_inputs=len(logits),
        peers={"torch logsumexp, topk": torch_ops},
    )


def _name(logits: list[Tensor]) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16"}[logits[0].dtype]


def _peers(logits: list[Tensor], rule: Rule) -> dict[str, Call]:
    if rule is GREEDY:
        return {"torch argmax": lambda i: logits[i].argmax(dim=1)}
    peers: dict[str, Call] = {"torch sort": lambda i: _torch_sample(logits[i], rule)}
    try:
        import flashinfer.sampling as flashinfer  # type: ignore[import-not-found]
    except ImportError:
        return peers

    def flash_infer(i: int) -> object:
        scaled = logits[i].float() / rule.temperature
        if not rule.is_filtered:
            return flashinfer.sampling_from_logits(scaled)
        if rule.top_k:
            return flashinfer.top_k_top_p_sampling_from_logits(scaled, rule.top_k, rule.top_p)
        return flashinfer.top_p_sampling_from_probs(scaled.softmax(dim=1), rule.top_p)

    # It has no min_p together with the other two: a rule less than ours.
    return {**peers, "flashinfer": flash_infer}


def _torch_sample(logits: Tensor, rule: Rule) -> Tensor:
    """What engines do without a kernel of their own: sort, mask by rank and mass, draw."""
    probs = (logits.float() / rule.temperature).softmax(dim=1)
    if rule.is_filtered:
        if rule.min_p > 0.0:
            probs = probs.where(probs >= rule.min_p * probs.amax(dim=1, keepdim=True), 0.0)
        best, order = probs.sort(dim=1, descending=True)
        if rule.top_k:
            best[:, rule.top_k :] = 0.0
        before = best.cumsum(dim=1) - best
        best = best.where(before < rule.top_p * best.sum(dim=1, keepdim=True), 0.0)
        noise = torch.empty_like(best).exponential_()
        return order.gather(1, (best / noise).argmax(dim=1, keepdim=True)).squeeze(1)
    noise = torch.empty_like(probs).exponential_()
    return (probs / noise).argmax(dim=1)
