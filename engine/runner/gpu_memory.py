"""How much of a GPU's memory the KV cache gets. Pure arithmetic; `profile_step` measures."""

from __future__ import annotations

from dataclasses import dataclass

from shoal.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMemory:
    """Bytes, measured once the weights are loaded and the largest step has run."""

    total: int
    free: int
    """With the weights in place and nothing else of ours: what other processes use is gone too."""
    activations: int
    """What the largest step takes beside weights and KV cache, at its peak."""

    def kv_cache_bytes(self, utilization: float) -> int:
        """What is left for the KV cache when we use no more than a share of the memory.

        80 GiB at 0.9: 8 GiB stay for CUDA graphs, the driver and what fragments. With 16 GiB of
        weights (64 free) and 2 of activations the cache gets 64 - 8 - 2 = 54 GiB. Raises
        ConfigError when nothing is left.
        """
        left_alone = round(self.total * (1 - utilization))
        num_bytes = self.free - left_alone - self.activations
        if num_bytes <= 0:
            raise ConfigError(
                f"gpu_memory_utilization={utilization:g} of {_gib(self.total)} leaves nothing for"
                f" the KV cache: {_gib(self.free)} are free with the weights loaded, a step takes"
                f" {_gib(self.activations)}, and {_gib(left_alone)} are to stay free. Raise"
                " gpu_memory_utilization, lower max_num_batched_tokens, or free the GPU."
            )
        return num_bytes

    def graph_bytes(self, utilization: float) -> int:
        """What CUDA graphs may take: a quarter of what the share leaves, at most 2 GiB."""
        return min(round(self.total * (1 - utilization)) // 4, 2 << 30)


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 30):.1f} GiB"
