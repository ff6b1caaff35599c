"""Chained block hashes: what makes a block of one request usable by another.

The hash of a block covers its tokens and, through its parent, every token before it. Extra
keys (adapter, cache salt) enter once, at the root of the chain, and so separate whole chains:
requests with different salts can never learn from timing whether they share a prompt.
Chaining full blocks follows vLLM's automatic prefix caching; SHA-256 makes collisions, which
would serve one user's context to another, infeasible to construct.
"""

from __future__ import annotations

from array import array
from hashlib import sha256


def root_hash(*, adapter: str | None = None, cache_salt: str | None = None) -> bytes:
    """The parent of a request's first block: 32 bytes that depend on the extra keys only."""
    key = repr(("shoal-kv", adapter, cache_salt))
    return sha256(key.encode()).digest()


def hash_block(parent: bytes, token_ids: list[int]) -> bytes:
    """Hash one full block of token ids (each in [0, 2^32)) under its parent: 32 bytes."""
    return sha256(parent + array("I", token_ids).tobytes()).digest()
