"""The layout of a step's arrays and what is packed into them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shoal.engine.runner.step_layout import ALIGNMENT, PaddedShape, step_layout
from shoal.engine.runner.step_packing import pack_step
from shoal.engine.runner.step_staging import StepStaging
from shoal.engine.runner.trial_steps import trial_inputs, trial_plan

SHAPE = PaddedShape(num_tokens=16, num_reqs=8, num_blocks=4, num_samples=8)
sizes = st.integers(1, 300)


@given(
    shape=st.builds(
        PaddedShape, num_tokens=sizes, num_reqs=sizes, num_blocks=sizes, num_samples=sizes
    ),
    num_groups=st.integers(1, 3),
)
def test_arrays_do_not_overlap_and_are_aligned(shape: PaddedShape, num_groups: int) -> None:
    layout = step_layout(shape, num_groups=num_groups)
    end = 0
    for field in layout.fields.values():
        assert field.offset % ALIGNMENT == 0
        assert field.offset >= end
        end = field.offset + field.num_bytes
    assert end <= layout.num_bytes


def test_a_larger_shape_never_takes_less() -> None:
    small = step_layout(SHAPE, num_groups=2).num_bytes
    for name in ("num_tokens", "num_reqs", "num_blocks", "num_samples"):
        more = {f: getattr(SHAPE, f) * (300 if f == name else 1) for f in SHAPE.__slots__}
        assert step_layout(PaddedShape(**more), num_groups=2).num_bytes > small


def test_eager_steps_are_padded_to_sixteens() -> None:
    shape = PaddedShape.around(num_tokens=17, num_reqs=3, num_blocks=1, num_samples=0)
    assert shape == PaddedShape(num_tokens=32, num_reqs=16, num_blocks=16, num_samples=0)


def packed(
    query_lens: list[int], *, num_samples: int = 0, sampled_before: list[int] | None = None
) -> dict[str, np.ndarray]:
    layout = step_layout(SHAPE, num_groups=1)
    buffer = np.full(layout.num_bytes, 0xA5, np.uint8)  # what an earlier step left
    views = layout.views(buffer)
    inputs = trial_inputs(query_lens, seq_len=9, block_size=4, num_groups=1)
    inputs.block_tables[0][:] = np.arange(inputs.block_tables[0].size).reshape(-1, 3) + 1
    inputs.slot_mapping[0][:] = np.arange(len(inputs.input_ids)) + 100
    inputs.input_ids[:] = 7
    if sampled_before is not None:
        object.__setattr__(inputs, "sampled_before", np.array(sampled_before))
    plan = trial_plan(num_samples, temperature=0.5, top_k=3, top_p=0.9) if num_samples else None
    pack_step(views, inputs, inputs.last_tokens[:num_samples], plan)
    return views


def test_values_then_padding_that_does_nothing() -> None:
    views = packed([1, 1, 4], num_samples=2)
    assert views["input_ids"].tolist() == [7] * 6 + [0] * 10
    assert views["positions"].tolist() == [8, 8, 5, 6, 7, 8] + [0] * 10
    assert views["query_start_loc"].tolist() == [0, 1, 2, 6, 6, 6, 6, 6, 6]
    assert views["seq_lens"].tolist() == [9, 9, 9, 0, 0, 0, 0, 0]
    assert views["slot_mapping.0"].tolist() == [*range(100, 106), *[-1] * 10]
    assert views["sampled_before"].tolist() == [-1] * 16
    table = views["block_tables.0"]
    assert table[:3, :3].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert table[:, 3].tolist() == [0] * 8
    assert not table[3:].any()
    assert views["last_tokens"].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert views["temperature"].tolist() == [0.5, 0.5] + [0.0] * 6
    assert views["top_k"].tolist() == [3, 3] + [0] * 6
    assert views["top_p"].tolist() == pytest.approx([0.9, 0.9] + [1.0] * 6)
    assert views["seeds"].tolist() == [0, 1] + [0] * 6


def test_ids_that_the_device_has_are_named() -> None:
    views = packed([1, 1, 2], sampled_before=[1, 0, -1, -1])
    assert views["sampled_before"].tolist() == [1, 0] + [-1] * 14


def test_staged_arrays_are_those_that_were_packed() -> None:
    staging = StepStaging(SHAPE, num_groups=1, device=torch.device("cpu"))
    for query_lens in ([1, 1, 4], [2], [1] * 8):  # buffers take turns
        inputs = trial_inputs(query_lens, seq_len=9, block_size=4, num_groups=1)
        plan = trial_plan(len(query_lens), temperature=0.7)
        step = staging.stage(inputs, inputs.last_tokens, plan, shape=SHAPE)
        n = len(query_lens)
        assert step.query_start_loc[: n + 1].tolist() == [0, *np.cumsum(query_lens).tolist()]
        assert step.last_tokens[:n].tolist() == inputs.last_tokens.tolist()
        assert step.temperature[:n].tolist() == pytest.approx([0.7] * n)
        assert (step.seq_lens.dtype, step.seeds.dtype) == (torch.int32, torch.int64)


def test_a_cleared_step_is_nothing_but_padding() -> None:
    staging = StepStaging(SHAPE, num_groups=1, device=torch.device("cpu"))
    inputs = trial_inputs([1] * 8, seq_len=9, block_size=4, num_groups=1)
    staging.stage(inputs, inputs.last_tokens, trial_plan(8), shape=SHAPE)
    staging.clear(SHAPE)
    step = staging.staged(SHAPE)
    assert not step.seq_lens.any()
    assert not step.query_start_loc.any()
    assert step.slot_mapping[0].tolist() == [-1] * 16
    assert step.sampled_before.tolist() == [-1] * 16


def test_a_step_beyond_the_largest_is_refused() -> None:
    staging = StepStaging(SHAPE, num_groups=1, device=torch.device("cpu"))
    with pytest.raises(ValueError, match="larger than the largest step"):
        staging.staged(PaddedShape(num_tokens=999, num_reqs=8, num_blocks=4, num_samples=8))
