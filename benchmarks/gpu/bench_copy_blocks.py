"""Blocks of Llama-3.1-8B's cache (32 layers, K and V: 2 MB each) copied, on the device and over the
bus. Over the bus the floor is not the device's: it is the peer "one large copy".
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from shoal.kernels.copy_blocks import copy_blocks, swap_blocks

from .case import Case

TENSORS = 64
BLOCK_SHAPE = (16, 8, 128)
BLOCK_BYTES = 16 * 8 * 128 * 2
NUM_BLOCKS = 300
TARGET = 0.85


def cases(device: torch.device) -> Iterator[Case]:
    caches = [
        torch.randn(NUM_BLOCKS, *BLOCK_SHAPE, device=device).bfloat16() for _ in range(TENSORS)
    ]
    order = torch.randperm(NUM_BLOCKS, device=device)
    yield _copies(caches, order[:2])
    yield _copies(caches, order[:256])
    count = 16
    tier = torch.zeros(2 * count, TENSORS, *BLOCK_SHAPE, dtype=torch.bfloat16).pin_memory()
    there = list(tier.unbind(1))
    flat = torch.empty(count * TENSORS * BLOCK_BYTES, dtype=torch.uint8).pin_memory()
    staged = torch.empty_like(flat, device=device)
    places = torch.randperm(2 * count, device=device)[:count]
    out = torch.stack((order[:count], places), dim=1)
    back = out.flip(1).contiguous()
    yield Case(
        name=f"swap_blocks/{count}x{TENSORS}-to_host",
        call=lambda _: swap_blocks(caches, there, out),
        bytes_moved=count * TENSORS * BLOCK_BYTES,
        peers={"one large copy": lambda _: flat.copy_(staged, non_blocking=True)},
    )
    yield Case(
        name=f"swap_blocks/{count}x{TENSORS}-from_host",
        call=lambda _: swap_blocks(there, caches, back),
        bytes_moved=count * TENSORS * BLOCK_BYTES,
        peers={"one large copy": lambda _: staged.copy_(flat, non_blocking=True)},
    )


def _copies(caches: list[Tensor], blocks: Tensor) -> Case:
    pairs = blocks.view(-1, 2)
    count = pairs.shape[0]
    return Case(
        name=f"copy_blocks/{count}x{TENSORS}",
        call=lambda _: copy_blocks(caches, pairs),
        bytes_moved=2 * count * TENSORS * BLOCK_BYTES,
        target=TARGET if count > 1 else None,
    )
