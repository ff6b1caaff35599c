"""Rotary frequencies: plain, linearly scaled, and Llama 3's scaling.

Kinds and their formulas: "linear" divides positions by the factor (Chen et al., 2023,
https://arxiv.org/abs/2306.15595); "llama3" divides low frequencies, keeps high ones and blends
between (Llama 3.1's reference code). GGUF files carry Llama 3's result as a tensor of factors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal.errors import UnsupportedModel

Floats = NDArray[np.float32]

_FIELDS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
"""What each kind reads beyond `theta`; without it the model would run, and answer nonsense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeConfig:
    """Parameters of the rotary embedding; fields beyond `theta` are those of its kind."""

    theta: float = 10_000.0
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192

    def __post_init__(self) -> None:
        for name in ("theta", *_FIELDS[self.kind]):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not value > 0:
                raise UnsupportedModel(f"RoPE {name} is {value!r}, expected a positive number")

    @classmethod
    def from_hf(cls, config: dict[str, Any]) -> RopeConfig:
        """From `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before)."""
        scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if not isinstance(scaling, dict):
            raise UnsupportedModel(f"the RoPE parameters are {scaling!r}, expected an object")
        theta = scaling.get("rope_theta") or config.get("rope_theta", 10_000.0)
        kind = scaling.get("rope_type") or scaling.get("type") or "default"
        if partial := [p for p in (scaling.get("partial_rotary_factor"),) if p not in (None, 1.0)]:
            raise UnsupportedModel(f"partial_rotary_factor {partial[0]} is not supported")
        _check_kind(kind)
        if missing := [name for name in _FIELDS[kind] if name not in scaling]:
            raise UnsupportedModel(f"RoPE scaling {kind!r} lacks {', '.join(missing)}")
        return cls(theta=theta, kind=kind, **{name: scaling[name] for name in _FIELDS[kind]})

    @classmethod
    def from_gguf(cls, metadata: dict[str, Any], arch: str) -> RopeConfig:
        kind = metadata.get(f"{arch}.rope.scaling.type", "none")
        kind = "default" if kind == "none" else kind
        _check_kind(kind)
        return cls(
            theta=metadata.get(f"{arch}.rope.freq_base", 10_000.0),
            kind=kind,
            factor=metadata.get(f"{arch}.rope.scaling.factor", 1.0),
        )

    def inverse_frequencies(self, head_dim: int) -> Floats:
        """[head_dim / 2] fp32: radians per position of each pair."""
        exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
        plain: Floats = (1 / np.float32(self.theta) ** exponents).astype(np.float32)
        if self.kind == "linear":
            return (plain / np.float32(self.factor)).astype(np.float32)
        if self.kind == "llama3":
            return self._llama3(plain)
        return plain

    def _llama3(self, plain: Floats) -> Floats:
        low, high = self.low_freq_factor, self.high_freq_factor
        context = self.original_max_position_embeddings
        # How often a frequency turns round within the original context decides its fate.
        turns = context * plain / (2 * math.pi)
        smooth = ((turns - low) / (high - low)).clip(0, 1)
        return ((1 - smooth) * plain / self.factor + smooth * plain).astype(np.float32)


def _check_kind(kind: str) -> None:
    if kind not in _FIELDS:
        raise UnsupportedModel(
            f"RoPE scaling {kind!r} is not supported; supported: {', '.join(_FIELDS)}"
        )
