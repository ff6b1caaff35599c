"""How the native kernels lay out the paged KV cache, by number format."""

from __future__ import annotations

import ctypes
from typing import Literal

from .library import KVLayoutStruct

KVFormat = Literal["float32", "bfloat16", "int8", "int4"]
KV_BITS: dict[KVFormat, int] = {"float32": 32, "bfloat16": 16, "int8": 8, "int4": 4}
"""`enum KVFormat` of kv_cache.h. Codes have a scale and a minimum for each token and head."""


def kv_block_bytes(
    library: ctypes.CDLL,
    kv_format: KVFormat,
    *,
    block_size: int,
    num_kv_heads: int,
    head_dim: int,
) -> int:
    """Bytes of one block's keys, which are those of its values as well.

    block_size and head_dim: multiples of 16.
    """
    layout = KVLayoutStruct(KV_BITS[kv_format], block_size, num_kv_heads, head_dim)
    num_bytes: int = library.shoal_kv_block_bytes(layout)
    return num_bytes
