"""Steps of a served model on the CPU kernels, and the floor of each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import numpy as np

from shoal.engine.models.native_llama import NativeWeights

from .driven_model import BLOCK_SIZE, DrivenModel, Part
from .floors import Floors


@dataclass(frozen=True, slots=True)
class Shape:
    """A step of `num_seqs` sequences that compute `num_tokens` each after `context` others."""

    num_seqs: int
    num_tokens: int
    context: int

    @property
    def name(self) -> str:
        if self.num_tokens == 1:
            return f"{self.num_seqs} decode{'s' * (self.num_seqs > 1)} at {self.context}"
        return f"prefill {self.num_tokens} at {self.context}"

    @property
    def total_tokens(self) -> int:
        return self.num_seqs * self.num_tokens

    @property
    def kv_tokens(self) -> int:
        """In whole blocks."""
        return self.num_seqs * -(-(self.context + self.num_tokens) // BLOCK_SIZE) * BLOCK_SIZE


SHAPES = (
    Shape(1, 1, 200),
    Shape(8, 1, 200),
    Shape(32, 1, 200),
    Shape(64, 1, 200),
    Shape(1, 1, 4000),
    Shape(1, 128, 0),
    Shape(1, 512, 0),
    Shape(1, 64, 3000),
)
SECONDS_A_SHAPE = 2.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of a step, with the head for each sequence."""

    median_s: float
    shortest_s: float
    floor_s: float


def time_step(model: DrivenModel, shape: Shape, floors: Floors) -> Timing:
    """Repeat a step for some seconds; at least three times."""
    rng = np.random.default_rng(0)
    vocab_size = model.config.vocab_size
    parts = [
        Part(rng.integers(vocab_size, size=shape.num_tokens), shape.context)
        for _ in range(shape.num_seqs)
    ]
    last = np.arange(shape.num_tokens - 1, shape.total_tokens, shape.num_tokens)
    times: list[float] = []
    end = time.perf_counter() + SECONDS_A_SHAPE
    while time.perf_counter() < end or len(times) < 3:
        begin = time.perf_counter()
        model.step(parts)
        model.model.logits(last)
        times.append(time.perf_counter() - begin)
    return Timing(median(times), min(times), floor_of(model, shape, floors))


def floor_of(model: DrivenModel, shape: Shape, floors: Floors) -> float:
    """All weights once, the KV of all sequences once, and every multiply-add once.

    Attention is counted as products of 16-bit numbers, at any width of the cache.
    """
    config, weights = model.config, model.model.weights
    layers = sum(
        matrix.data.size
        for layer in weights.layers
        for matrix in (layer.qkv, layer.output, layer.gate_up, layer.down)
    )
    keys = shape.context + (shape.num_tokens + 1) / 2  # that a token sees, on average
    pairs = shape.total_tokens * keys
    kv_bytes = model.kv_bytes_per_token * shape.num_seqs * (shape.context + shape.num_tokens)
    multiply_adds: dict[int, float] = dict.fromkeys((4, 8, 16), 0)
    for bits, size in matrix_sizes(weights).items():
        multiply_adds[bits] += shape.total_tokens * size
    head = weights.lm_head
    multiply_adds[head.struct.format] += shape.num_seqs * head.shape[0] * head.shape[1]
    multiply_adds[16] += 2 * pairs * config.num_layers * config.num_q_heads * config.head_dim
    return floors.seconds(num_bytes=layers + head.data.size + kv_bytes, multiply_adds=multiply_adds)


def matrix_sizes(weights: NativeWeights) -> dict[int, int]:
    """Numbers in the matrices of all layers, by their bits."""
    sizes: dict[int, int] = {}
    for layer in weights.layers:
        for matrix in (layer.qkv, layer.output, layer.gate_up, layer.down):
            rows, columns = matrix.shape
            bits = matrix.struct.format
            sizes[bits] = sizes.get(bits, 0) + rows * columns
    return sizes
