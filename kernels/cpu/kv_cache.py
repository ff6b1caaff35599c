"""The paged KV cache of the native kernels: one piece of memory, block after block."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .library import KVLayoutStruct
from .memory import Bytes, zeroed

KVFormat = Literal["float32", "bfloat16", "int8", "int4"]
KV_BITS: dict[KVFormat, int] = {"float32": 32, "bfloat16": 16, "int8": 8, "int4": 4}
"""`enum KVFormat` of kv_cache.h. Codes have a scale and a minimum for each token and head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KVLayout:
    """What a block looks like."""

    kv_format: KVFormat
    block_size: int
    """Tokens of a block, a multiple of 16."""
    num_kv_heads: int
    head_dim: int
    """A multiple of 16."""

    def keys_bytes(self, library: ctypes.CDLL) -> int:
        """Bytes of the keys of one block in one layer, which are those of its values as well."""
        num_bytes: int = library.shoal_kv_keys_bytes(self.struct(0))
        return num_bytes

    def struct(self, block_stride: int) -> KVLayoutStruct:
        """As the kernels read it; block_stride: bytes from a block to the next."""
        return KVLayoutStruct(
            KV_BITS[self.kv_format], self.block_size, self.num_kv_heads, self.head_dim, block_stride
        )


class KVCache:
    """Zeroed memory for `num_blocks` blocks; the system hands it out as blocks are first used."""

    def __init__(
        self,
        library: ctypes.CDLL,
        layout: KVLayout,
        *,
        num_blocks: int,
        layer_slots: Sequence[int],
        memory: Bytes | None = None,
    ) -> None:
        """layer_slots: where in a block each layer has its keys and values; layers of different KV
        cache groups may share a place. memory: used in place of zeros, for tests."""
        keys_bytes = layout.keys_bytes(library)
        stride = 2 * keys_bytes * (max(layer_slots) + 1)
        self.num_bytes = stride * num_blocks
        self._memory = zeroed(self.num_bytes) if memory is None else memory[: self.num_bytes]
        if self._memory.size != self.num_bytes:
            raise ValueError(f"{self._memory.size} bytes given for a cache of {self.num_bytes}")
        begin = self._memory.ctypes.data
        keys = [begin + 2 * keys_bytes * slot for slot in layer_slots]
        self.struct = layout.struct(stride)
        self.keys = (ctypes.c_void_p * len(keys))(*keys)
        """For each layer, the address of its keys in block 0."""
        self.values = (ctypes.c_void_p * len(keys))(*(key + keys_bytes for key in keys))
