"""How the arrays of a step lie in one buffer, so that one copy takes them to the GPU. Pure.

A step has some 15 small arrays. Copied one by one they would cost 15 calls of about 5 us and as
many synchronisations of pageable memory; packed into pinned memory they are one asynchronous copy.
The offsets follow from the padded shape alone: a CUDA graph captured for a shape finds its inputs
where every other step of that shape puts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 256
"""Bytes: Triton compiles other code for pointers that are not aligned to 16; 256 is a cache line
and more."""

_GRAIN = 16
"""What eager steps are padded to: whether a size divides by 16 is a matter of compilation in
Triton, so one program serves all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedShape:
    """Sizes of a step's arrays, padding included."""

    num_tokens: int
    num_reqs: int
    num_blocks: int
    """Columns of the block tables."""
    num_samples: int
    """Rows that sample; 0: none does."""

    @classmethod
    def around(
        cls, *, num_tokens: int, num_reqs: int, num_blocks: int, num_samples: int
    ) -> PaddedShape:
        """The shape for a step that runs without a graph."""
        return cls(
            num_tokens=padded(num_tokens),
            num_reqs=padded(num_reqs),
            num_blocks=padded(num_blocks),
            num_samples=padded(num_samples),
        )


@dataclass(frozen=True, slots=True)
class Field:
    """One array: its place in the buffer."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    offset: int
    """Bytes from the start of the buffer."""

    @property
    def num_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class StepLayout:
    """The arrays of a step by name, and how many bytes they take together."""

    fields: dict[str, Field]
    num_bytes: int

    def views(self, buffer: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        """The arrays as views of a buffer of at least `num_bytes`."""
        return {
            name: buffer[field.offset : field.offset + field.num_bytes]
            .view(field.dtype)
            .reshape(field.shape)
            for name, field in self.fields.items()
        }


@lru_cache(maxsize=1024)
def step_layout(shape: PaddedShape, *, num_groups: int) -> StepLayout:
    """The arrays of a step of this shape.

    Per token: `input_ids`, `positions`, `sampled_before`, and of each KV cache group g
    `slot_mapping.g`. Per request: `query_start_loc` (one more), `seq_lens`, `block_tables.g`. Per
    row that samples: `last_tokens`, and the columns of a `SamplingPlan`.
    """
    tokens, reqs, samples = (shape.num_tokens,), (shape.num_reqs,), (shape.num_samples,)
    arrays: list[tuple[str, type[np.generic], tuple[int, ...]]] = [
        ("input_ids", np.int64, tokens),
        ("positions", np.int64, tokens),
        ("sampled_before", np.int64, tokens),
        ("query_start_loc", np.int32, (shape.num_reqs + 1,)),
        ("seq_lens", np.int32, reqs),
    ]
    for group in range(num_groups):
        arrays += [
            (f"slot_mapping.{group}", np.int64, tokens),
            (f"block_tables.{group}", np.int32, (shape.num_reqs, shape.num_blocks)),
        ]
    arrays += [
        ("last_tokens", np.int64, samples),
        ("temperature", np.float32, samples),
        ("top_k", np.int32, samples),
        ("top_p", np.float32, samples),
        ("min_p", np.float32, samples),
        ("seeds", np.int64, samples),
        ("sample_positions", np.int64, samples),
    ]
    fields, offset = {}, 0
    for name, dtype, sizes in arrays:
        field = Field(np.dtype(dtype), sizes, offset)
        fields[name] = field
        offset = _ceil(offset + field.num_bytes, ALIGNMENT)
    return StepLayout(fields, offset)


def padded(size: int) -> int:
    """What steps are padded to that no graph gives their shape."""
    return _ceil(size, _GRAIN)


def _ceil(number: int, grain: int) -> int:
    return -(-number // grain) * grain
