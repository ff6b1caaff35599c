"""Random tensors of the row operations' tests."""

from __future__ import annotations

import torch
from torch import Tensor

FAR = 2**31
"""Entries before those that `far_away` places."""
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def rand(
    *shape: int, device: torch.device, dtype: torch.dtype = torch.float32, seed: int = 0
) -> Tensor:
    """Normal values, the same on every device."""
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values.to(dtype).to(device)


def far_away(blocks: Tensor) -> Tensor:
    """A cache with these as its last blocks, behind so many entries that int32 cannot count them.

    The others hold anything.
    """
    before = FAR // blocks[0].numel() + 1
    whole = blocks.new_empty(before + len(blocks), *blocks.shape[1:])
    whole[before:] = blocks
    return whole
