"""Host memory for evicted KV blocks, and the copies between it and the device's caches.

On a GPU copies run on a stream of their own, beside the step in flight: a device block changes
hands only when no step in flight uses it, so only the step that is about to be submitted waits for
them. One block is copied by a few programs of one launch, whatever the number of layers
(`shoal.kernels.copy_blocks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from shoal.errors import ConfigError
from shoal.kernels.copy_blocks import BlockSwap

from ..core.output import BlockCopies
from ..models.paged_kv import LayerKV

ALIGNMENT = 256
"""Bytes between which the host's copies of two tensors begin."""


class CpuTier:
    """`num_blocks` host blocks, each as large as a block of all layers on the device.

    Raises ConfigError when the system does not give or lock the memory.
    """

    def __init__(self, kv_caches: Sequence[LayerKV], num_blocks: int) -> None:
        self._device_tensors = _distinct(kv_caches)
        device = self._device_tensors[0].device
        sizes = [num_blocks * _block_bytes(tensor) for tensor in self._device_tensors]
        starts, end = [], 0
        for size in sizes:
            starts.append(end)
            end += -(-size // ALIGNMENT) * ALIGNMENT
        self._memory = _allocate(end, locked=device.type == "cuda")
        self._host_tensors = [
            _like(tensor, self._memory[start : start + size], num_blocks)
            for tensor, start, size in zip(self._device_tensors, starts, sizes, strict=True)
        ]
        self._save = BlockSwap(self._device_tensors, self._host_tensors)
        self._load = BlockSwap(self._host_tensors, self._device_tensors)
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def copy(self, copies: BlockCopies) -> None:
        """Queue the copies; what is queued on the current stream from now on comes after them."""
        if self._stream is None:
            self._swap(copies)
            return
        with torch.cuda.stream(self._stream):
            self._swap(copies)
        torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)

    def close(self) -> None:
        """Give the memory back; no copy may be under way."""
        if self._stream is not None:
            self._stream.synchronize()
            torch.cuda.cudart().cudaHostUnregister(self._memory.data_ptr())  # type: ignore[no-untyped-call]

    def _swap(self, copies: BlockCopies) -> None:
        if copies.saves:
            self._save(self._pairs(copies.saves))
        if copies.loads:
            self._load(self._pairs(copies.loads))

    def _pairs(self, pairs: list[tuple[int, int]]) -> Tensor:
        table = torch.tensor(pairs, dtype=torch.int64)
        return table if self._stream is None else table.pin_memory()


def _distinct(kv_caches: Sequence[LayerKV]) -> list[Tensor]:
    """The tensors of all layers, each once: layers of different groups share them."""
    tensors = [tensor for layer in kv_caches for tensor in layer if tensor is not None]
    return list({tensor.data_ptr(): tensor for tensor in tensors}.values())


def _block_bytes(tensor: Tensor) -> int:
    return prod(tensor.shape[1:]) * tensor.dtype.itemsize


def _like(tensor: Tensor, memory: Tensor, num_blocks: int) -> Tensor:
    """`memory` as blocks with the strides of the device's, dense one after the other."""
    flat = memory.view(tensor.dtype)
    shape = (num_blocks, *tensor.shape[1:])
    return flat.as_strided(shape, (prod(tensor.shape[1:]), *tensor.stride()[1:]))


def _allocate(num_bytes: int, *, locked: bool) -> Tensor:
    """Bytes of host memory; `locked`: where a GPU can reach them.

    Registered, not allocated by torch: its allocator of pinned memory rounds up to a power of two.
    """
    try:
        memory = torch.empty(num_bytes, dtype=torch.uint8)
    except RuntimeError as error:
        raise ConfigError(
            f"no {num_bytes} bytes of host memory for evicted KV blocks: {error}"
        ) from None
    if locked:
        status = torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), num_bytes, 0)  # type: ignore[no-untyped-call]
        if int(status):
            raise ConfigError(
                f"cannot lock {num_bytes} bytes of host memory for evicted KV blocks (CUDA error"
                f" {int(status)}). Lower kv_offloading_size, or raise the limit (ulimit -l)."
            )
    return memory
