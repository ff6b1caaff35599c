"""Chained hashes of prompts: how the router names a prefix.

In approximate mode a prompt is the bytes of its JSON as the client wrote them, cut into chunks of
`CHUNK_BYTES`; a later turn of a conversation begins with the bytes of the earlier one. In exact
mode it is the worker's own token ids, cut at the worker's block size, whatever hash function the
worker uses: KV events carry the ids. Each hash covers, through its seed, all chunks before it.
xxHash (Yann Collet) at 64 bits: one in 2^44 look-ups among 2^20 prefixes is wrong, and then one
request goes to a worker that has to compute its prompt.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Final

from xxhash import xxh3_64_intdigest

CHUNK_BYTES: Final = 256
"""About 64 tokens of English."""
TOKENS_PER_CHUNK: Final = 64
_TOKEN_BYTES: Final = array("I").itemsize


def root_hash(*extra_keys: str | None) -> int:
    """The seed of a request's first chunk: adapter, cache salt, whatever separates caches."""
    return xxh3_64_intdigest("\0".join(key or "" for key in extra_keys).encode())


def exact_root(model: str | None, adapter: str | None, cache_salt: str | None = None) -> int:
    """The seed in exact mode: what KV events tell of a prompt besides its token ids.

    `adapter` is the name of a LoRA adapter (a request's model, when the records of the fleet list
    it among their `adapters`), else None. `model` is no part of it: workers know one model by
    several names, and endpoints are filtered by model before a prefix is looked up.
    """
    return root_hash(adapter, cache_salt)


def chunk_hashes(prompt: bytes, root: int) -> tuple[int, ...]:
    """Hashes of the full chunks of a prompt: about 0.2 us a chunk."""
    digest = xxh3_64_intdigest
    hashes = []
    seed = root
    for start in range(0, len(prompt) - CHUNK_BYTES + 1, CHUNK_BYTES):
        seed = digest(prompt[start : start + CHUNK_BYTES], seed)
        hashes.append(seed)
    return tuple(hashes)


def token_block_hash(parent: int, token_ids: Iterable[int]) -> int:
    """Hash of one full block of token ids (each in [0, 2^32)) under its parent's."""
    return xxh3_64_intdigest(array("I", token_ids).tobytes(), parent)


def token_hashes(token_ids: list[int], block_size: int, root: int) -> tuple[int, ...]:
    """Hashes of the full blocks of a tokenized prompt; what `token_block_hash` makes one by one."""
    data = array("I", token_ids).tobytes()
    step = block_size * _TOKEN_BYTES
    digest = xxh3_64_intdigest
    hashes = []
    parent = root
    for start in range(0, len(data) - step + 1, step):
        parent = digest(data[start : start + step], parent)
        hashes.append(parent)
    return tuple(hashes)
