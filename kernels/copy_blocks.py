"""Blocks of the KV cache copied: inside the device, and between the device and pinned memory.

A cache is many tensors (K and V of each layer, their scales), and a block is a row of each; a copy
moves all of them together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .dispatch import uses_triton


def copy_blocks(caches: Sequence[Tensor], pairs: Tensor) -> None:
    """caches[i][destination] = caches[i][source] for each pair, in every tensor.

    caches: tensors [num_blocks, ...] on one device, each block dense in memory; pairs: [n, 2]
    int64 (source, destination), on the host or the device. No destination may be a source or
    another's destination: the copies run side by side.
    """
    swap_blocks(caches, caches, pairs)


def swap_blocks(sources: Sequence[Tensor], destinations: Sequence[Tensor], pairs: Tensor) -> None:
    """destinations[i][pair[1]] = sources[i][pair[0]] for each pair, in every tensor.

    sources, destinations: as many tensors [num_blocks, ...], alike but for their number of
    blocks and its stride, each block dense in memory; either side on the device or in pinned host
    memory. pairs: [n, 2] int64 (source, destination), on the host or the device. On a GPU the copy
    is queued on the current stream, and the call returns at once.
    """
    BlockSwap(sources, destinations)(pairs)


class BlockSwap:
    """`swap_blocks` between tensors that stay where they are: looked at once, then copied from many
    times. With 64 tensors that takes the host 0.4 ms, as long as 9 blocks of them over the bus."""

    def __init__(self, sources: Sequence[Tensor], destinations: Sequence[Tensor]) -> None:
        _check_tensors(sources, destinations)
        self._sources, self._destinations = list(sources), list(destinations)
        self._in_triton: Callable[[Tensor], None] | None = None
        if sources and (uses_triton(sources[0]) or uses_triton(destinations[0])):
            from .triton.copy_blocks import TritonBlockSwap

            self._in_triton = TritonBlockSwap(sources, destinations)

    def __call__(self, pairs: Tensor) -> None:
        """Copy these blocks: [n, 2] int64 (source, destination)."""
        _check_pairs(pairs)
        if not self._sources or not pairs.shape[0]:
            return
        if self._in_triton is not None:
            self._in_triton(pairs)
        else:
            swap_blocks_torch(self._sources, self._destinations, pairs)


def swap_blocks_torch(
    sources: Sequence[Tensor], destinations: Sequence[Tensor], pairs: Tensor
) -> None:
    """The meaning of `swap_blocks`."""
    for source, destination in zip(sources, destinations, strict=True):
        if source.dtype.itemsize == 1:  # torch does not scatter fp8
            source, destination = source.view(torch.uint8), destination.view(torch.uint8)
        blocks = source[pairs[:, 0].to(source.device)].to(destination.device)
        destination.index_put_((pairs[:, 1].to(destination.device),), blocks)


def _check_pairs(pairs: Tensor) -> None:
    if pairs.dim() != 2 or pairs.shape[1] != 2 or pairs.dtype != torch.int64:
        raise ValueError(
            f"swap_blocks: pairs is {pairs.dtype} {tuple(pairs.shape)}; pass int64 [n, 2]"
        )


def _check_tensors(sources: Sequence[Tensor], destinations: Sequence[Tensor]) -> None:
    if len(sources) != len(destinations):
        raise ValueError(
            f"swap_blocks: {len(sources)} sources and {len(destinations)} destinations"
        )
    for index, (source, destination) in enumerate(zip(sources, destinations, strict=True)):
        alike = (
            source.shape[1:] == destination.shape[1:]
            and source.dtype == destination.dtype
            and source.stride()[1:] == destination.stride()[1:]
        )
        if not alike:
            raise ValueError(
                f"swap_blocks: blocks of pair {index} differ: {source.dtype}"
                f" {tuple(source.shape[1:])} and {destination.dtype} {tuple(destination.shape[1:])}"
                " with their strides must be equal"
            )
        if not _is_dense(source):
            raise ValueError(
                f"swap_blocks: blocks of pair {index} are not dense in memory: shape"
                f" {tuple(source.shape[1:])} has strides {source.stride()[1:]}"
            )


def _is_dense(cache: Tensor) -> bool:
    """Whether the entries of a block fill one stretch of memory, in any order of dimensions."""
    size = 1
    for stride, length in sorted(zip(cache.stride()[1:], cache.shape[1:], strict=True)):
        if length != 1 and stride != size:
            return False
        size *= length
    return True
