"""Seconds of an engine step from what is in it, and of a stretch of steps that only decode.

A step reads the weights once (`base_s`), computes its prompt tokens, and reads the KV of its
decodes. The same form as `engine.core.step_time`, with coefficients that are given instead of
learnt.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Coefficients in seconds. The defaults are near a 70B model in fp8 on two H100: 70 GB of
    weights at 4.4 TB/s, 140 GFLOP a prompt token at 0.9 PFLOP/s, 160 KB of KV a token."""

    base_s: float = 0.016
    prompt_token_s: float = 1.6e-4
    decode_s: float = 5e-5
    kv_token_s: float = 3.6e-8

    def step_s(self, *, prompt_tokens: int, decodes: int, kv_tokens: int) -> float:
        """`kv_tokens`: tokens in the KV cache of the decodes, together."""
        return (
            self.base_s
            + prompt_tokens * self.prompt_token_s
            + decodes * self.decode_s
            + kv_tokens * self.kv_token_s
        )

    def stretch_s(self, num_steps: int, *, decodes: int, kv_tokens: int) -> float:
        """Of steps in a row with the same decodes, each of which adds a token to its KV."""
        growth = decodes * self.kv_token_s
        first = self.step_s(prompt_tokens=0, decodes=decodes, kv_tokens=kv_tokens)
        return num_steps * first + growth * num_steps * (num_steps - 1) / 2

    def steps_begun(self, elapsed_s: float, *, decodes: int, kv_tokens: int) -> int:
        """How many steps of a stretch have begun after so long: the last may be under way."""
        growth = decodes * self.kv_token_s
        first = self.step_s(prompt_tokens=0, decodes=decodes, kv_tokens=kv_tokens)
        # stretch_s(n) = growth / 2 * n^2 + (first - growth / 2) * n, solved for n.
        linear = first - growth / 2
        root = (sqrt(linear * linear + 2 * growth * elapsed_s) - linear) / growth
        return max(ceil(root - 1e-9), 1)
