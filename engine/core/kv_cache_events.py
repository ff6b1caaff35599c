"""What became findable in the prefix cache and what was evicted: the news of a KVCacheManager.

Kept in the order in which things happened, and only where somebody asked for them: a router that
mirrors a worker's cache replays them to know which prefixes it holds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocksStored:
    """A run of full blocks of one request can now be found by others."""

    block_hashes: list[bytes]
    parent_block_hash: bytes | None
    """Hash of the block before the first; None at the start of a prompt."""
    token_ids: list[int]
    """Of all the blocks, `block_size` each."""
    group: int
    """KV cache group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRemoved:
    """A block's content was overwritten."""

    block_hash: bytes
    group: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostBlocksStored:
    """Blocks that are being evicted from the device were copied to host memory."""

    block_hashes: list[bytes]
    group: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostBlockRemoved:
    """A block in host memory made room for another."""

    block_hash: bytes
    group: int


@dataclass(frozen=True, slots=True)
class AllBlocksCleared:
    """Nothing can be found any more."""


KVCacheEvent = BlocksStored | BlockRemoved | HostBlocksStored | HostBlockRemoved | AllBlocksCleared
