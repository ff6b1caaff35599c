"""How the native kernels lay out the paged KV cache, by number format."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Literal

from .library import KVLayoutStruct

KVFormat = Literal["float32", "bfloat16", "int8", "int4"]
KV_BITS: dict[KVFormat, int] = {"float32": 32, "bfloat16": 16, "int8": 8, "int4": 4}
"""`enum KVFormat` of kv_cache.h. Codes have a scale and a minimum for each token and head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KVLayout:
    """The key cache of a layer, and its value cache."""

    kv_format: KVFormat
    num_blocks: int
    """The null block included."""
    block_size: int
    """Tokens of a block, a multiple of 16."""
    num_kv_heads: int
    head_dim: int
    """A multiple of 16."""

    def cache_bytes(self, library: ctypes.CDLL) -> int:
        """Bytes of the keys, which are those of the values as well."""
        layout = KVLayoutStruct(
            KV_BITS[self.kv_format],
            self.num_blocks,
            self.block_size,
            self.num_kv_heads,
            self.head_dim,
        )
        num_bytes: int = library.shoal_kv_cache_bytes(layout)
        return num_bytes
