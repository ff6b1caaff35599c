"""8-bit linear layers of Llama-3.1-8B: decode steps by bytes of weights, prefill by operations.

cuBLAS in bf16 is among the peers: what quantization is worth.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from shoal.kernels.quantize_rows import quantize_rows
from shoal.kernels.w8a8_matmul import w8a8_matmul

from .case import Call, Case
from .linear_layers import DECODE_TOKENS, LAYERS, PREFILL_TOKENS, TARGET, num_sets


def cases(device: torch.device) -> Iterator[Case]:
    for layer, (out_dim, dim) in LAYERS.items():
        dense = torch.randn(out_dim, dim, device=device, dtype=torch.bfloat16)
        fp8, scale = quantize_rows(dense, dtype=torch.float8_e4m3fn)
        for num_tokens in DECODE_TOKENS:
            yield _case(f"{layer}-{num_tokens}-fp8", dense, fp8, scale, num_tokens)
        int8, int8_scale = quantize_rows(dense, dtype=torch.int8)
        yield _case(f"{layer}-64-int8", dense, int8, int8_scale, 64)
        yield _case(f"{layer}-{PREFILL_TOKENS}-fp8", dense, fp8, scale, PREFILL_TOKENS)
        yield _case(f"{layer}-{PREFILL_TOKENS}-int8", dense, int8, int8_scale, PREFILL_TOKENS)


def _case(name: str, dense: Tensor, codes: Tensor, scale: Tensor, num_tokens: int) -> Case:
    out_dim, dim = codes.shape
    is_decode = num_tokens in DECODE_TOKENS
    sets = num_sets(codes.numel()) if is_decode else 1
    weights = [codes, *(codes.clone() for _ in range(sets - 1))]
    dense_weights = [dense, *(dense.clone() for _ in range(sets - 1))]
    x = torch.randn(num_tokens, dim, device=codes.device, dtype=torch.bfloat16)
    x_codes, x_scale = quantize_rows(x, dtype=codes.dtype)

    peers: dict[str, Call] = {"cuBLAS bf16": lambda i: x @ dense_weights[i].t()}
    if codes.dtype == torch.int8 and num_tokens > 16:
        peers["torch._int_mm, int32 out"] = lambda i: torch._int_mm(x_codes, weights[i].t())
    elif codes.dtype == torch.float8_e4m3fn:
        row = scale.t().contiguous()
        peers["torch._scaled_mm, scales by row"] = lambda i: torch._scaled_mm(
            x_codes, weights[i].t(), x_scale, row, out_dtype=torch.bfloat16, use_fast_accum=True
        )
    return Case(
        name=f"w8a8_matmul/{name}",
        call=lambda i: w8a8_matmul(x_codes, weights[i], x_scale=x_scale, weight_scale=scale),
        bytes_moved=codes.numel() + x_codes.numel() + 2 * num_tokens * out_dim,
        flops=2 * num_tokens * out_dim * dim,
        flop_rate="int8" if codes.dtype == torch.int8 else "fp8",
        num_inputs=sets,
        peers=peers,
        peers_capturable=True,
        target=TARGET if is_decode else None,
    )
