"""A torch model as a backend: the same code on "cpu" and "cuda"."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shoal.kernels.kv_cache_shape import kv_cache_shape
from shoal.kernels.paged_batch import PagedBatch

from ..core.config import CacheConfig
from ..core.output import BlockCopies, TokenLogprobs
from ..models.causal_lm import CausalLM
from ..models.paged_kv import LayerKV
from .backend import PendingSample
from .cpu_tier import CpuTier
from .input_batch import StepInputs
from .kv_cache import share_among_layers
from .logprobs import token_logprobs
from .pending import Computed
from .sampler import sample
from .sampling_plan import LongInts, SamplerOutput, SamplingPlan
from .torch_profiler import TorchProfiler

LOGITS_BYTES = 64 << 20
"""Logits of prompt tokens held at once: 341 positions of a vocabulary of 49,152. A prompt of 4,000
would take 786 MB in one piece."""


class TorchBackend:
    """Implements `Backend`. Sampled ids cross to the host once per step.

    Raises RuntimeError (from torch) when the KV cache does not fit the device.
    """

    max_in_flight = 1

    def __init__(
        self, model: CausalLM, *, cache: CacheConfig, device: torch.device, dtype: torch.dtype
    ) -> None:
        config = model.config
        self.vocab_size = config.vocab_size
        self._model = model
        self._cache = cache
        self._device = device
        shape = kv_cache_shape(
            cache.num_blocks, cache.block_size, config.num_kv_heads, config.head_dim
        )
        self._kv_caches = share_among_layers(
            config, lambda: LayerKV(_zeros(shape, dtype, device), _zeros(shape, dtype, device))
        )
        self._hidden = torch.empty(0)
        self._tier: CpuTier | None = None
        if cache.num_host_blocks:
            self._tier = CpuTier(self._kv_caches, cache.num_host_blocks)

    def make_profiler(self, folder: Path) -> TorchProfiler:
        return TorchProfiler(folder)

    def copy_blocks(self, copies: BlockCopies) -> None:
        assert self._tier is not None
        self._tier.copy(copies)

    def submit(
        self, inputs: StepInputs, tokens: LongInts, plan: SamplingPlan | None
    ) -> PendingSample:
        return Computed(self.step(inputs, tokens, plan))

    @torch.inference_mode()
    def step(
        self, inputs: StepInputs, tokens: LongInts, plan: SamplingPlan | None
    ) -> SamplerOutput | None:
        batches = [
            PagedBatch(
                query_lens=inputs.query_lens,
                seq_lens=inputs.seq_lens,
                block_tables=self._tensor(block_tables),
                slot_mapping=self._tensor(slot_mapping),
                block_size=self._cache.block_size,
                sliding_window=group.sliding_window,
            )
            for group, block_tables, slot_mapping in zip(
                self._cache.groups, inputs.block_tables, inputs.slot_mapping, strict=True
            )
        ]
        self._hidden = self._model(
            self._tensor(inputs.input_ids),
            self._tensor(inputs.positions),
            self._kv_caches,
            batches,
        )
        if plan is None:
            return None
        return sample(self._model.compute_logits(self._hidden[self._tensor(tokens)]).float(), plan)

    @torch.inference_mode()
    def token_logprobs(
        self, tokens: LongInts, targets: LongInts, *, num_top: int
    ) -> list[TokenLogprobs]:
        chunk = max(LOGITS_BYTES // (self.vocab_size * 4), 1)
        reports: list[TokenLogprobs] = []
        for begin in range(0, len(tokens), chunk):
            places = self._tensor(tokens[begin : begin + chunk])
            logits = self._model.compute_logits(self._hidden[places]).float()
            of_chunk = self._tensor(targets[begin : begin + chunk])
            reports += token_logprobs(logits, of_chunk, num_top=[num_top] * len(logits))
        return reports

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def layer_block_bytes(
    *, block_size: int, num_kv_heads: int, head_dim: int, dtype: torch.dtype
) -> int:
    """Keys and values of one block in one layer."""
    return 2 * prod(kv_cache_shape(1, block_size, num_kv_heads, head_dim)) * dtype.itemsize


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # numpy's zeros are pages that the system hands out when they are first written; torch.zeros
    # writes them all at once: 0.4 s a GiB of start-up time.
    raw = np.zeros(prod(shape) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(raw).view(dtype).view(shape)
