"""The inputs of steps on their way to the GPU: pinned memory here, one device buffer there.

Two pinned buffers take turns, so that the next step can be packed while the copy of the last one
has not run yet. The device needs no second buffer: copies and kernels of one stream keep their
order. Without CUDA (in tests) the buffers are ordinary memory and copies are done at once.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .input_batch import StepInputs
from .sampling_plan import LongInts, SamplingPlan
from .step_layout import Field, PaddedShape, step_layout
from .step_packing import Views, pack_step

_MAX_SHAPES = 512
"""Shapes whose views are kept; making some 20 views of a tensor takes as long as a small step."""


@dataclass(frozen=True, slots=True)
class StagedStep:
    """The arrays of a step on the device; see `step_layout` for what they are.

    All are views of one buffer that the next `stage` overwrites.
    """

    shape: PaddedShape
    input_ids: Tensor
    positions: Tensor
    sampled_before: Tensor
    query_start_loc: Tensor
    seq_lens: Tensor
    slot_mapping: list[Tensor]
    block_tables: list[Tensor]
    last_tokens: Tensor
    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    seeds: Tensor
    sample_positions: Tensor


class StepStaging:
    """Holds the buffers; `largest` is the shape that no step exceeds in any size."""

    def __init__(self, largest: PaddedShape, *, num_groups: int, device: torch.device) -> None:
        self._num_groups = num_groups
        num_bytes = step_layout(largest, num_groups=num_groups).num_bytes
        self._device_buffer = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
        self._pinned = [_PinnedBuffer(num_bytes, device) for _ in range(2)]
        self._turn = 0
        self._shapes: OrderedDict[PaddedShape, _Views] = OrderedDict()

    def stage(
        self,
        inputs: StepInputs,
        tokens: LongInts,
        plan: SamplingPlan | None,
        *,
        shape: PaddedShape,
    ) -> StagedStep:
        """Pack a step and queue its copy to the device; returns before the copy has run."""
        views = self._views(shape)
        turn, self._turn = self._turn, 1 - self._turn
        pinned = self._pinned[turn]
        pinned.wait_for_copy()
        pack_step(views.host[turn], inputs, tokens, plan)
        pinned.copy_to(self._device_buffer, views.num_bytes)
        return views.device

    def staged(self, shape: PaddedShape) -> StagedStep:
        """The views of a shape, whatever the buffer holds: what a CUDA graph is captured over."""
        return self._views(shape).device

    def clear(self, shape: PaddedShape) -> None:
        """Put a step on the device that is nothing but padding."""
        step = self._views(shape).device
        self._device_buffer.zero_()
        for tensor in (*step.slot_mapping, step.sampled_before):
            tensor.fill_(-1)
        step.top_p.fill_(1.0)

    def _views(self, shape: PaddedShape) -> _Views:
        views = self._shapes.get(shape)
        if views is None:
            views = self._shapes[shape] = self._make_views(shape)
            if len(self._shapes) > _MAX_SHAPES:
                self._shapes.popitem(last=False)
        else:
            self._shapes.move_to_end(shape)
        return views

    def _make_views(self, shape: PaddedShape) -> _Views:
        layout = step_layout(shape, num_groups=self._num_groups)
        if layout.num_bytes > self._device_buffer.numel():
            raise ValueError(
                f"a step of {shape} takes {layout.num_bytes} bytes, but the buffers were made for"
                f" {self._device_buffer.numel()}: it is larger than the largest step announced"
            )
        tensors = {name: self._device_view(field) for name, field in layout.fields.items()}
        groups = range(self._num_groups)
        device = StagedStep(
            shape=shape,
            slot_mapping=[tensors.pop(f"slot_mapping.{group}") for group in groups],
            block_tables=[tensors.pop(f"block_tables.{group}") for group in groups],
            **tensors,
        )
        host = [layout.views(pinned.array) for pinned in self._pinned]
        return _Views(host, device, layout.num_bytes)

    def _device_view(self, field: Field) -> Tensor:
        dtype = torch.from_numpy(np.empty(0, field.dtype)).dtype
        raw = self._device_buffer[field.offset : field.offset + field.num_bytes]
        return raw.view(dtype).view(field.shape)


@dataclass(frozen=True, slots=True)
class _Views:
    host: list[Views]
    """Of each pinned buffer."""
    device: StagedStep
    num_bytes: int


class _PinnedBuffer:
    """Memory that the GPU reads by itself, and when it has last done so."""

    def __init__(self, num_bytes: int, device: torch.device) -> None:
        self._copied = _event() if device.type == "cuda" else None
        self._tensor = torch.zeros(
            num_bytes, dtype=torch.uint8, pin_memory=self._copied is not None
        )
        self.array: NDArray[np.uint8] = self._tensor.numpy()

    def wait_for_copy(self) -> None:
        """Wait until the last copy has run: before it, the memory must not change."""
        if self._copied is not None:
            self._copied.synchronize()

    def copy_to(self, target: Tensor, num_bytes: int) -> None:
        target[:num_bytes].copy_(self._tensor[:num_bytes], non_blocking=True)
        if self._copied is not None:
            self._copied.record()


def _event() -> torch.cuda.Event:
    event: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    return event
