"""The numbers the scheduler and the KV cache need, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """Bounds of one scheduling step and of the queue in front of it."""

    max_num_seqs: int = 64
    """Requests that may run at once."""
    max_num_batched_tokens: int = 512
    """Most tokens of one step; prefill chunks are shorter where the step would take too long."""
    itl_target_s: float | None = None
    """Seconds that a step with running decodes should take at most; None: about twice what the
    decodes take by themselves, as learnt from the steps so far."""
    max_model_len: int = 4096
    """Prompt plus output tokens of one request."""
    max_num_waiting: int = 1024
    """Bound of the waiting queue; one more request is refused (429)."""
    queue_timeout_s: float | None = 60.0
    """How long a request may wait before its first step (503 after it); None: for ever."""

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "max_num_waiting"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) must be at least "
                f"max_num_seqs ({self.max_num_seqs}), or running requests would starve"
            )
        if self.itl_target_s is not None and not 0 < self.itl_target_s < inf:
            raise ValueError(f"itl_target_s must be positive and finite, got {self.itl_target_s}")
        if self.queue_timeout_s is not None and self.queue_timeout_s <= 0:
            raise ValueError(f"queue_timeout_s must be positive, got {self.queue_timeout_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KVCacheGroup:
    """Layers that share one block table; `sliding_window` (tokens) is None for full attention."""

    sliding_window: int | None = None

    def __post_init__(self) -> None:
        if self.sliding_window is not None and self.sliding_window < 1:
            raise ValueError(f"sliding_window must be at least 1, got {self.sliding_window}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """Size and shape of the paged KV cache. Block 0 is the null block and holds no tokens."""

    num_blocks: int
    """Blocks in the pool, the null block included."""
    block_size: int = 16
    """Tokens per block."""
    enable_prefix_caching: bool = True
    groups: tuple[KVCacheGroup, ...] = (KVCacheGroup(),)
    num_host_blocks: int = 0
    """Blocks of host memory for what is evicted from the prefix cache; 0: it is lost."""
    max_saves_per_step: int = 512
    """Most blocks that one step may copy there: it waits for them."""

    def __post_init__(self) -> None:
        if self.num_blocks < 2:
            raise ValueError(
                f"num_blocks must be at least 2 (block 0 is null), got {self.num_blocks}"
            )
        if self.block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {self.block_size}")
        if self.num_host_blocks < 0:
            raise ValueError(f"num_host_blocks must be 0 or more, got {self.num_host_blocks}")
        if self.max_saves_per_step < 1:
            raise ValueError(
                f"max_saves_per_step must be at least 1, got {self.max_saves_per_step}"
            )
        if self.num_host_blocks and not self.enable_prefix_caching:
            raise ValueError("num_host_blocks needs enable_prefix_caching: it extends that cache")
        if not self.groups:
            raise ValueError("groups must name at least one KV cache group")
