"""Writes the arrays of a step into the views of its padded layout. Pure numpy.

Padding is harmless by its values: a token of slot -1 writes nothing, a request of length 0 attends
to nothing, a row of temperature 0 is greedy; what they compute is never read.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .input_batch import StepInputs
from .sampling_plan import LongInts, SamplingPlan

Views = dict[str, NDArray[np.generic]]
"""Arrays of a step by name: `step_layout.StepLayout.views`."""

_COLUMNS = {
    "temperature": ("temperature", 0),
    "top_k": ("top_k", 0),
    "top_p": ("top_p", 1),
    "min_p": ("min_p", 0),
    "seeds": ("seeds", 0),
    "sample_positions": ("positions", 0),
}
"""Arrays that are columns of a `SamplingPlan`, with the value of their padding."""


def pack_step(
    views: Views, inputs: StepInputs, tokens: LongInts, plan: SamplingPlan | None
) -> None:
    """Fill every entry of the views: the step's values, then padding."""
    _fill(views["input_ids"], inputs.input_ids, 0)
    _fill(views["positions"], inputs.positions, 0)
    if inputs.sampled_before is None:
        views["sampled_before"].fill(-1)
    else:
        _fill(views["sampled_before"], inputs.sampled_before, -1)
    num_reqs = len(inputs.query_lens)
    starts = views["query_start_loc"]
    starts[0] = 0
    np.cumsum(inputs.query_lens, out=starts[1 : num_reqs + 1])
    starts[num_reqs + 1 :] = starts[num_reqs]
    _fill(views["seq_lens"], inputs.seq_lens, 0)
    for group, (slots, table) in enumerate(
        zip(inputs.slot_mapping, inputs.block_tables, strict=True)
    ):
        _fill(views[f"slot_mapping.{group}"], slots, -1)
        padded = views[f"block_tables.{group}"]
        width = table.shape[1]
        padded[:num_reqs, :width] = table
        padded[:num_reqs, width:] = 0
        padded[num_reqs:] = 0
    if plan is None:
        return
    _fill(views["last_tokens"], tokens, 0)
    for name, (column, padding) in _COLUMNS.items():
        _fill(views[name], getattr(plan, column), padding)


def _fill(view: NDArray[np.generic], values: NDArray[np.generic], padding: int) -> None:
    view[: len(values)] = values
    view[len(values) :] = padding
