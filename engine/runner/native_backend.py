"""The native CPU kernels as a backend: one call a step."""

from __future__ import annotations

from itertools import count

import numpy as np
from numpy.typing import NDArray

from shoal.kernels.cpu.kv_cache import KVCache, KVFormat, KVLayout
from shoal.kernels.cpu.library import EditsStruct, SamplingStruct

from ..core.config import CacheConfig
from ..core.output import TokenLogprobs
from ..models.native_llama import NativeLlama
from .backend import PendingSample
from .input_batch import StepInputs
from .kv_cache import share_among_layers
from .pending import Computed
from .sampling_plan import Entries, LogitEdits, LongInts, SamplerOutput, SamplingPlan


class NativeBackend:
    """Implements `Backend`. Raises MemoryError when a step's scratch memory cannot be had."""

    max_in_flight = 1

    def __init__(self, model: NativeLlama, *, cache: CacheConfig, kv_format: KVFormat) -> None:
        config = model.config
        self.vocab_size = config.vocab_size
        self._model = model
        layout = KVLayout(
            kv_format=kv_format,
            block_size=cache.block_size,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
        )
        slots = share_among_layers(config, count().__next__)
        model.use_kv_cache(
            KVCache(model.library, layout, num_blocks=cache.num_blocks, layer_slots=slots)
        )

    def submit(
        self, inputs: StepInputs, tokens: LongInts, plan: SamplingPlan | None
    ) -> PendingSample:
        return Computed(self.step(inputs, tokens, plan))

    def step(
        self, inputs: StepInputs, tokens: LongInts, plan: SamplingPlan | None
    ) -> SamplerOutput | None:
        request = None if plan is None else SamplingRequest(tokens, plan)
        self._model.step(
            inputs.input_ids,
            inputs.positions,
            query_lens=inputs.query_lens,
            slot_mapping=inputs.slot_mapping,
            block_tables=inputs.block_tables,
            sampling=None if request is None else request.struct,
        )
        return None if request is None else request.output()

    def token_logprobs(
        self, tokens: LongInts, targets: LongInts, *, num_top: int
    ) -> list[TokenLogprobs]:
        num_top = min(num_top, self.vocab_size)
        ids, logprobs, ranks = self._model.logprobs(tokens, targets.astype(np.int32), num_top)
        return [
            TokenLogprobs(token_ids=i, logprobs=p, rank=r)
            for i, p, r in zip(ids.tolist(), logprobs.tolist(), ranks.tolist(), strict=True)
        ]


class SamplingRequest:
    """A plan as the kernels read it, with room for their answer; keeps the arrays alive."""

    def __init__(self, tokens: LongInts, plan: SamplingPlan) -> None:
        num_rows, most = len(plan), max(int(plan.num_logprobs.max()), 0)
        self._plan = plan
        self._tokens = np.ascontiguousarray(tokens, np.int64)
        self._token_ids = np.empty(num_rows, np.int64)
        self._broken = np.empty(num_rows, np.uint8)
        self._logprob_ids = np.empty((num_rows, 1 + most), np.int32)
        self._logprobs = np.empty((num_rows, 1 + most), np.float32)
        self._ranks = np.empty(num_rows, np.int32)
        edits = plan.edits or LogitEdits()
        self.struct = SamplingStruct(
            num_rows=num_rows,
            tokens=_address(self._tokens),
            temperature=_address(plan.temperature),
            top_k=_address(plan.top_k),
            top_p=_address(plan.top_p),
            min_p=_address(plan.min_p),
            seeds=_address(plan.seeds),
            positions=_address(plan.positions),
            repetition=_edits(edits.repetition),
            presence=_edits(edits.presence),
            frequency=_edits(edits.frequency),
            added=_edits(edits.added),
            num_logprobs=_address(plan.num_logprobs),
            most_logprobs=most,
            token_ids=_address(self._token_ids),
            broken=_address(self._broken),
            logprob_ids=_address(self._logprob_ids),
            logprobs=_address(self._logprobs),
            ranks=_address(self._ranks),
        )

    def output(self) -> SamplerOutput:
        """What the kernels chose, once they have."""
        reports = {}
        for row in (self._plan.num_logprobs >= 0).nonzero()[0].tolist():
            end = 1 + int(self._plan.num_logprobs[row])
            reports[row] = TokenLogprobs(
                token_ids=self._logprob_ids[row, :end].tolist(),
                logprobs=self._logprobs[row, :end].tolist(),
                rank=int(self._ranks[row]),
            )
        return SamplerOutput(self._token_ids, reports, self._broken.nonzero()[0].tolist())


def _edits(entries: Entries | None) -> EditsStruct:
    if entries is None:
        return EditsStruct()
    return EditsStruct(
        count=len(entries.rows),
        rows=_address(entries.rows),
        tokens=_address(entries.token_ids),
        values=_address(entries.values),
    )


def _address(array: NDArray[np.generic]) -> int:
    assert array.flags.c_contiguous
    return array.ctypes.data
