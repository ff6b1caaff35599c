"""Chooses tokens on the GPU and brings them to the host when it asks: nothing here waits.

Order and meaning are those of `sampler.sample`: log-probabilities are taken from the raw logits,
then edits, temperature, filters and the draw. Ids stay on the device too, for the next step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from shoal.kernels.sample import sample_tokens
from shoal.kernels.token_logprobs import token_logprobs

from ..core.output import TokenLogprobs
from .logit_edits import apply_edits_
from .sampling_plan import SamplerOutput, SamplingPlan
from .step_staging import StagedStep


@dataclass(frozen=True, slots=True)
class DeviceSample:
    """What was chosen for the rows of a step, on the device; padding rows at the end."""

    token_ids: Tensor
    """[padded rows] int64."""
    broken: Tensor
    """[padded rows] bool."""
    logprobs: tuple[Tensor, Tensor, Tensor] | None
    """Ids, log-probabilities and ranks of all rows, where any row asked; see `token_logprobs`."""


def sample_on_device(logits: Tensor, staged: StagedStep, plan: SamplingPlan) -> DeviceSample:
    """Choose a token for each row of `logits` [padded rows, vocab_size]; left as they are."""
    edited = logits
    if plan.edits is not None:
        edited = logits.to(torch.float32, copy=True)
        apply_edits_(edited, plan.edits)
    broken = torch.empty(logits.shape[0], dtype=torch.bool, device=logits.device)
    filtered = (plan.top_k > 0) | (plan.top_p < 1.0) | (plan.min_p > 0.0)
    token_ids = sample_tokens(
        edited,
        temperature=staged.temperature,
        top_k=staged.top_k,
        top_p=staged.top_p,
        min_p=staged.min_p,
        seeds=staged.seeds,
        positions=staged.sample_positions,
        broken=broken,
        all_greedy=not plan.temperature.any(),
        none_filtered=not filtered.any(),
    )
    num_top = int(plan.num_logprobs.max())
    logprobs = None
    if num_top >= 0:
        found = token_logprobs(logits, token_ids, num_top=num_top)
        logprobs = found.token_ids, found.logprobs, found.ranks
    return DeviceSample(token_ids, broken, logprobs)


class SampleOnItsWay:
    """A `PendingSample`: copies to pinned memory are queued, and an event behind them."""

    def __init__(self, sample: DeviceSample, plan: SamplingPlan) -> None:
        self._plan = plan
        self._token_ids = _to_host(sample.token_ids)
        self._broken = _to_host(sample.broken)
        self._logprobs = None if sample.logprobs is None else tuple(map(_to_host, sample.logprobs))
        self._copied: torch.cuda.Event | None = None
        if sample.token_ids.is_cuda:
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()

    def result(self) -> SamplerOutput:
        """Wait for the copies. The arrays are ours: no later step writes to them."""
        if self._copied is not None:
            self._copied.synchronize()
        num_rows = len(self._plan)
        return SamplerOutput(
            token_ids=self._token_ids.numpy()[:num_rows],
            logprobs={} if self._logprobs is None else self._reports(*self._logprobs),
            broken_rows=self._broken.numpy()[:num_rows].nonzero()[0].tolist(),
        )

    def _reports(self, ids: Tensor, logprobs: Tensor, ranks: Tensor) -> dict[int, TokenLogprobs]:
        reports = {}
        for row in (self._plan.num_logprobs >= 0).nonzero()[0].tolist():
            end = 1 + int(self._plan.num_logprobs[row])
            reports[row] = TokenLogprobs(
                token_ids=ids[row, :end].tolist(),
                logprobs=logprobs[row, :end].tolist(),
                rank=int(ranks[row]),
            )
        return reports


def _to_host(tensor: Tensor) -> Tensor:
    """A copy on its way; torch takes pinned memory for it from a cache of its own."""
    return tensor.to("cpu", non_blocking=True, copy=True)
