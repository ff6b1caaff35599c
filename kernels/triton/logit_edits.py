"""Edits of logits, one launch a rule: a later rule starts from what the one before left."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ..logit_edits import EditBatch

ENTRIES = 256
"""Of a program. An edit is a read and a write of 4 scattered bytes, so nothing else matters."""


@triton.jit(do_not_specialize=["first", "last"])
def _edit_kernel(
    logits_ptr,
    rows_ptr,
    token_ids_ptr,
    values_ptr,
    first,
    last,
    stride_row,
    stride_token,
    RULE: tl.constexpr,
    ENTRIES: tl.constexpr,
):
    """RULE 0: x / value where x > 0, else x * value; 1 and 2: x - value; 3: x + value."""
    entries = first + tl.program_id(0) * ENTRIES + tl.arange(0, ENTRIES)
    is_there = entries < last
    rows = tl.load(rows_ptr + entries, mask=is_there, other=0).to(tl.int64)
    tokens = tl.load(token_ids_ptr + entries, mask=is_there, other=0).to(tl.int64)
    values = tl.load(values_ptr + entries, mask=is_there, other=1.0)
    x_ptr = logits_ptr + rows * stride_row + tokens * stride_token
    if RULE == 0:
        x = tl.load(x_ptr, mask=is_there, other=0.0)
        tl.store(x_ptr, tl.where(x > 0, tl.div_rn(x, values), x * values), mask=is_there)
    elif RULE == 3:
        tl.atomic_add(x_ptr, values, mask=is_there)
    else:
        tl.atomic_add(x_ptr, -values, mask=is_there)


def edit_logits_triton_(logits: Tensor, edits: EditBatch) -> None:
    """See `kernels.logit_edits`. A rule without entries is not launched."""
    first = 0
    for rule, last in enumerate(edits.ends):
        if last > first:
            _edit_kernel[(triton.cdiv(last - first, ENTRIES),)](
                logits,
                edits.rows,
                edits.token_ids,
                edits.values,
                first,
                last,
                *logits.stride(),
                RULE=rule,
                ENTRIES=ENTRIES,
                num_warps=2,
            )
        first = last
