"""A model on a GPU as a backend: nothing in a step waits for the device.

The host packs a step, queues one copy and the kernels (or one CUDA graph), and goes on; sampled
ids stay on the device, where the next step finds them. Without CUDA (in tests, with the torch
twins of the kernels or Triton's interpreter) the same code runs step by step, without graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import torch
from torch import Tensor

from shoal.kernels.gather_rows import gather_rows
from shoal.kernels.ragged_batch import RaggedBatch
from shoal.kernels.token_logprobs import token_logprobs

from ..core.config import CacheConfig, SchedulerConfig
from ..core.output import BlockCopies, TokenLogprobs
from ..models.causal_lm import CausalLM
from ..models.paged_kv import LayerKV
from ..sources.progress import Progress
from .backend import PendingSample
from .cpu_tier import CpuTier
from .cuda_graph import CaptureReport, StepGraphs
from .device_sampling import SampleOnItsWay, sample_on_device
from .graph_buckets import MIXED_SIZES, CaptureLimits, GraphBucket, capture_order
from .input_batch import StepInputs
from .pending import Computed
from .sampling_plan import LongInts, SamplingPlan
from .step_layout import PaddedShape, padded
from .step_ranges import Ranges, no_ranges
from .step_staging import StagedStep, StepStaging
from .torch_profiler import TorchProfiler

LOGITS_BYTES = 256 << 20
"""Logits of prompt tokens held at once, for log-probabilities of a prompt."""


class CudaBackend:
    """Implements `Backend`. `kv_caches`: one for each layer, on the model's device.

    Raises ConfigError when the host memory for evicted blocks cannot be had.
    """

    max_in_flight = 2

    def __init__(
        self,
        model: CausalLM,
        kv_caches: Sequence[LayerKV],
        *,
        cache: CacheConfig,
        scheduler: SchedulerConfig,
        device: torch.device,
        ranges: Ranges = no_ranges,
    ) -> None:
        self.vocab_size = model.config.vocab_size
        self._model = model
        self._kv_caches = list(kv_caches)
        self._cache = cache
        self._scheduler = scheduler
        self._device = device
        self.ranges = ranges
        """Around the parts of a step: "prepare", "forward", "sample"."""
        largest = PaddedShape.around(
            num_tokens=scheduler.max_num_batched_tokens,
            num_reqs=scheduler.max_num_seqs,
            num_blocks=self._num_blocks(scheduler.max_model_len),
            num_samples=scheduler.max_num_seqs,
        )
        self._staging = StepStaging(largest, num_groups=len(cache.groups), device=device)
        self._sampled = torch.zeros(largest.num_samples, dtype=torch.int64, device=device)
        """What the last step that sampled chose."""
        self._graph_hidden = torch.empty(0, device=device)
        """[tokens of the largest graph, hidden_size]: where graphs leave the hidden states."""
        self._graphs: StepGraphs | None = None
        self._hidden = torch.empty(0, device=device)
        self._tier: CpuTier | None = None
        if cache.num_host_blocks:
            self._tier = CpuTier(self._kv_caches, cache.num_host_blocks)

    def make_profiler(self, folder: Path) -> TorchProfiler:
        return TorchProfiler(folder)

    def copy_blocks(self, copies: BlockCopies) -> None:
        assert self._tier is not None
        with self.ranges("copy blocks"):
            self._tier.copy(copies)

    @torch.inference_mode()
    def capture_graphs(self, limits: CaptureLimits, progress: Progress) -> CaptureReport:
        """Capture steps as CUDA graphs; those that no graph holds run without."""
        config = self._scheduler
        self._graphs = StepGraphs(
            stage=lambda bucket: self._staging.clear(self._shape_of(bucket, 0)),
            run=self._run_bucket,
            device=self._device,
        )
        order = capture_order(
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens,
            max_model_len=config.max_model_len,
        )
        return self._graphs.capture(order, limits, progress)

    @torch.inference_mode()
    def submit(
        self, inputs: StepInputs, tokens: LongInts, plan: SamplingPlan | None
    ) -> PendingSample:
        max_query_len = int(inputs.query_lens.max())
        max_seq_len = int(inputs.seq_lens.max())
        # In most decode steps every token is followed by a sample.
        all_sample = len(tokens) == len(inputs.input_ids)
        bucket = self._find_graph(inputs, max_query_len, max_seq_len)
        with self.ranges("prepare"):
            shape = (
                self._shape_around(inputs, len(tokens), max_seq_len)
                if bucket is None
                else self._shape_of(bucket, bucket.num_tokens if all_sample else len(tokens))
            )
            staged = self._staging.stage(inputs, tokens, plan, shape=shape)
        with self.ranges("forward"):
            if bucket is None or self._graphs is None:
                hidden = self._forward(staged, max_query_len, max_seq_len)
            else:
                self._graphs.replay(bucket)
                hidden = self._graph_hidden[: bucket.num_tokens]
            self._hidden = hidden
        if plan is None:
            return Computed(None)
        with self.ranges("sample"):
            if not all_sample:
                hidden = gather_rows(hidden, staged.last_tokens)
            logits = self._model.compute_logits(hidden)
            sample = sample_on_device(logits, staged, plan)
            self._sampled[: len(sample.token_ids)].copy_(sample.token_ids)
            return SampleOnItsWay(sample, plan)

    @torch.inference_mode()
    def token_logprobs(
        self, tokens: LongInts, targets: LongInts, *, num_top: int
    ) -> list[TokenLogprobs]:
        chunk = max(LOGITS_BYTES // (self.vocab_size * 4), 1)
        reports: list[TokenLogprobs] = []
        for begin in range(0, len(tokens), chunk):
            places = torch.from_numpy(tokens[begin : begin + chunk]).to(self._device)
            of_chunk = torch.from_numpy(targets[begin : begin + chunk]).to(self._device)
            logits = self._model.compute_logits(gather_rows(self._hidden, places))
            found = token_logprobs(logits, of_chunk, num_top=num_top)
            lines = found.token_ids.tolist(), found.logprobs.tolist(), found.ranks.tolist()
            reports += [
                TokenLogprobs(token_ids=ids, logprobs=logprobs, rank=rank)
                for ids, logprobs, rank in zip(*lines, strict=True)
            ]
        return reports

    def _find_graph(
        self, inputs: StepInputs, max_query_len: int, max_seq_len: int
    ) -> GraphBucket | None:
        if self._graphs is None:
            return None
        return self._graphs.find(
            num_tokens=len(inputs.input_ids),
            num_reqs=len(inputs.req_ids),
            max_query_len=max_query_len,
            max_seq_len=max_seq_len,
        )

    def _run_bucket(self, bucket: GraphBucket) -> None:
        """The step that a graph holds: what is staged, to the buffer of hidden states."""
        staged = self._staging.staged(self._shape_of(bucket, 0))
        hidden = self._forward(staged, bucket.max_query_len, bucket.max_seq_len)
        if not self._graph_hidden.numel():
            most = max(self._scheduler.max_num_seqs, *MIXED_SIZES)
            self._graph_hidden = hidden.new_empty(most, hidden.shape[1])
        self._graph_hidden[: bucket.num_tokens].copy_(hidden)

    def _forward(self, staged: StagedStep, max_query_len: int, max_seq_len: int) -> Tensor:
        """Hidden states of the staged tokens; the lengths are bounds, for grids."""
        known = staged.sampled_before < 0
        sampled = self._sampled[staged.sampled_before.clamp(min=0)]
        batches = [
            RaggedBatch(
                query_start_loc=staged.query_start_loc,
                seq_lens=staged.seq_lens,
                block_tables=block_tables,
                slot_mapping=slot_mapping,
                block_size=self._cache.block_size,
                max_query_len=max_query_len,
                max_seq_len=max_seq_len,
                sliding_window=group.sliding_window,
            )
            for group, block_tables, slot_mapping in zip(
                self._cache.groups, staged.block_tables, staged.slot_mapping, strict=True
            )
        ]
        input_ids = torch.where(known, staged.input_ids, sampled)
        return self._model(input_ids, staged.positions, self._kv_caches, batches)

    def _shape_of(self, bucket: GraphBucket, num_samples: int) -> PaddedShape:
        """The shape a graph was captured for.

        Sampling is not in the graph, and its arrays are the last in the layout: how many rows there
        are moves none of the others.
        """
        return PaddedShape(
            num_tokens=bucket.num_tokens,
            num_reqs=bucket.num_reqs,
            num_blocks=self._num_blocks(bucket.max_seq_len),
            num_samples=num_samples if num_samples == bucket.num_tokens else padded(num_samples),
        )

    def _shape_around(self, inputs: StepInputs, num_samples: int, max_seq_len: int) -> PaddedShape:
        return PaddedShape.around(
            num_tokens=len(inputs.input_ids),
            num_reqs=len(inputs.req_ids),
            num_blocks=self._num_blocks(max_seq_len),
            num_samples=num_samples,
        )

    def _num_blocks(self, num_tokens: int) -> int:
        return ceil(num_tokens / self._cache.block_size)
