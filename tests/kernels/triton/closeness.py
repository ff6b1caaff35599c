"""The one tolerance of all kernels: an error at most twice that of torch in the same dtype.

Both are measured against the exact result in fp64 (the rule of FlashAttention's tests). So a
tolerance is never written down, and never widened to hide something.
"""

from __future__ import annotations

import torch
from torch import Tensor


def assert_as_exact_as(torch_result: Tensor, result: Tensor, exact: Tensor) -> None:
    """Fail unless `result` is about as near to `exact` (fp64) as torch's own result is.

    The allowance beside the factor 2 is one unit in the last place of the largest exact value:
    torch may happen to be exact in a small case.
    """
    assert result.shape == exact.shape, (result.shape, exact.shape)
    assert result.dtype == torch_result.dtype, (result.dtype, torch_result.dtype)
    if not exact.numel():
        return
    error = (result.double() - exact).abs()
    torch_error = (torch_result.double() - exact).abs().max()
    ulp = torch.finfo(result.dtype).eps * exact.abs().max()
    limit = 2 * torch_error + ulp
    worst = error.nan_to_num(nan=float("inf")).max()
    assert worst <= limit, (
        f"error {worst:.3g} is above {limit:.3g}; torch's is {torch_error:.3g};"
        f" {int((~(error <= limit)).sum())} of {error.numel()} entries"
    )
