"""The linear layers of Llama-3.1-8B that the matrix benchmarks time."""

from __future__ import annotations

LAYERS = {"o": (4096, 4096), "gate_up": (28_672, 4096), "down": (4096, 14_336)}
"""(out_dim, dim) of the attention's output, and of the MLP's two."""
DECODE = (("o", 16), ("down", 16), ("gate_up", 16), ("gate_up", 64))
"""Layers and tokens of decode steps."""
PREFILL_TOKENS = 4096
TARGET = 0.85
"""Of the copy bandwidth, on the bytes of weights, for a decode step."""

L2_BYTES = 50e6


def num_sets(weight_bytes: float) -> int:
    """Weights to rotate among: several times the L2 cache together."""
    return max(2, min(int(3 * L2_BYTES / weight_bytes) + 1, 24))
