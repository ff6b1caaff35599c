"""Merge attention over two sets of keys into attention over both.

Each part is known by its output and the log of its softmax's denominator (Milakov and Gimelshein,
2018; as `merge_state` in FlashInfer, Ye et al., 2024).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .dispatch import uses_triton


def merge_states(
    out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor, *, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(e^lse_a * out_a + e^lse_b * out_b) / (e^lse_a + e^lse_b), and the log of that denominator.

    out_a, out_b: [num_tokens, num_heads, head_dim] of one dtype, head_dim contiguous; lse_a, lse_b:
    [num_tokens, num_heads] fp32, natural log, -inf where a part had no keys: its output then counts
    nothing, NaN included. Computed in fp32. Returns the merged output, of out_a's dtype (or `out`),
    and its log.
    """
    if out_a.shape != out_b.shape or out_a.dim() != 3 or out_a.dtype != out_b.dtype:
        raise ValueError(
            "merge_states: outputs are [num_tokens, num_heads, head_dim] of one dtype, not"
            f" {out_a.dtype} {list(out_a.shape)} and {out_b.dtype} {list(out_b.shape)}"
        )
    for name, lse in (("lse_a", lse_a), ("lse_b", lse_b)):
        if lse.shape != out_a.shape[:2] or lse.dtype != torch.float32:
            raise ValueError(
                f"merge_states: {name} is fp32 {list(out_a.shape[:2])}, not {lse.dtype}"
                f" {list(lse.shape)}"
            )
    if out is None:
        out = torch.empty_like(out_a, memory_format=torch.contiguous_format)
    elif out.shape != out_a.shape:
        raise ValueError(f"merge_states: out is {list(out.shape)}, not {list(out_a.shape)}")
    if out_a.shape[2] > 1 and any(x.stride(2) != 1 for x in (out_a, out_b, out)):
        raise ValueError("merge_states: head_dim is the contiguous dimension of all outputs")
    lse = torch.empty_like(lse_a, memory_format=torch.contiguous_format)
    if uses_triton(out_a):
        from .triton.merge_states import merge_states_triton

        merge_states_triton(out_a, lse_a, out_b, lse_b, out, lse)
    else:
        merge_states_torch(out_a, lse_a, out_b, lse_b, out, lse)
    return out, lse


def merge_states_torch(
    out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor, out: Tensor, lse: Tensor
) -> None:
    """What `merge_states` means, in fp32 (fp64 for fp64 outputs)."""
    wide = torch.float64 if out_a.dtype == torch.float64 else torch.float32
    lse.copy_(torch.logaddexp(lse_a, lse_b))
    largest = torch.maximum(lse_a, lse_b).nan_to_num(neginf=0.0).to(wide)
    weight_a, weight_b = torch.exp(lse_a - largest), torch.exp(lse_b - largest)
    total = weight_a + weight_b

    def share(part: Tensor, weight: Tensor) -> Tensor:
        share = torch.where(total > 0, weight / total, 0)[..., None]
        return torch.where(share > 0, share * part.to(wide), 0)

    out.copy_(share(out_a, weight_a) + share(out_b, weight_b))
