"""Many blocks of many tensors copied by one launch, on the device or over the bus.

Pinned host memory is mapped into the device's address space, so the same kernel reads or writes
it: no call of the driver for each of (blocks x layers x 2) pieces of some 32 KB.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..launch.copy_blocks import copy_blocks_config
from .quick_launch import QuickLaunch

WORDS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}


class TritonBlockSwap:
    """Copies from one set of tensors to another, worked out but for which blocks."""

    def __init__(self, sources: Sequence[Tensor], destinations: Sequence[Tensor]) -> None:
        devices = [tensor.device for tensor in (sources[0], destinations[0])]
        self._device = next((d for d in devices if d.type == "cuda"), devices[0])
        self._over_the_bus = devices[0] != devices[1]
        self._parts = [
            (
                block_bytes,
                strides,
                math.gcd(16, *strides, *(a for pair in addresses for a in pair)),
                _address_table(tuple(addresses), self._device),
            )
            for (block_bytes, *strides), addresses in _alike(sources, destinations).items()
            if block_bytes
        ]

    def __call__(self, pairs: Tensor) -> None:
        """pairs: [n, 2] int64 (source, destination)."""
        pairs = pairs.to(self._device, non_blocking=True).contiguous()
        for block_bytes, strides, alignment, addresses in self._parts:
            num_blocks = addresses.shape[0] * pairs.shape[0]
            config = copy_blocks_config(
                block_bytes, num_blocks, alignment, over_the_bus=self._over_the_bus
            )
            _quick_copy_blocks(
                (config.num_programs,),
                addresses,
                pairs,
                _word(config.word_bytes, self._device),
                addresses.shape[0],
                num_blocks,
                block_bytes // config.word_bytes,
                strides[0] // config.word_bytes,
                strides[1] // config.word_bytes,
                BLOCK=config.block,
                ALIGNED=alignment == 16,
                num_warps=config.num_warps,
            )


def _alike(
    sources: Sequence[Tensor], destinations: Sequence[Tensor]
) -> dict[tuple[int, int, int], list[tuple[int, int]]]:
    """(bytes of a block, strides of source and destination in bytes) -> addresses of both."""
    alike: defaultdict[tuple[int, int, int], list[tuple[int, int]]] = defaultdict(list)
    for source, destination in zip(sources, destinations, strict=True):
        size = source.element_size()
        block_bytes = source[:1].numel() * size
        strides = (source.stride(0) * size, destination.stride(0) * size)
        alike[block_bytes, *strides].append((source.data_ptr(), destination.data_ptr()))
    return alike


@lru_cache(maxsize=64)
def _address_table(addresses: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """[tensors, 2] int64, kept: a cache is allocated once and copied from many times."""
    return torch.tensor(addresses, dtype=torch.int64, device=device)


@lru_cache(maxsize=8)
def _word(word_bytes: int, device: torch.device) -> Tensor:
    """An empty tensor whose pointer tells the kernel how wide a word is."""
    return torch.empty(1, dtype=WORDS[word_bytes], device=device)


@triton.jit(do_not_specialize=["num_blocks"])
def _copy_blocks_kernel(
    addresses_ptr,  # [num_tensors, 2] int64: source, destination
    pairs_ptr,  # [num_pairs, 2] int64: block of the source, block of the destination
    word_ptr,  # only its type is used
    num_tensors,
    num_blocks,  # num_tensors * num_pairs
    words,  # of a block
    stride_source,  # words from block to block
    stride_destination,
    BLOCK: tl.constexpr,
    ALIGNED: tl.constexpr,
):
    """destination[i][pair[1]] = source[i][pair[0]]."""
    tiles = tl.cdiv(words, BLOCK)
    for item in range(tl.program_id(0), num_blocks * tiles, tl.num_programs(0)):
        block = item // tiles
        tensor = block % num_tensors
        pair = (block // num_tensors).to(tl.int64)
        source = tl.load(addresses_ptr + 2 * tensor).to(word_ptr.dtype)
        destination = tl.load(addresses_ptr + 2 * tensor + 1).to(word_ptr.dtype)
        if ALIGNED:
            # Nothing about an address that was loaded is known to the compiler.
            source = tl.multiple_of(source, 16)
            destination = tl.multiple_of(destination, 16)
        source += tl.load(pairs_ptr + 2 * pair) * stride_source
        destination += tl.load(pairs_ptr + 2 * pair + 1) * stride_destination
        columns = (item % tiles) * BLOCK + tl.arange(0, BLOCK)
        mask = columns < words
        tl.store(destination + columns, tl.load(source + columns, mask=mask), mask=mask)


_quick_copy_blocks = QuickLaunch(_copy_blocks_kernel)
