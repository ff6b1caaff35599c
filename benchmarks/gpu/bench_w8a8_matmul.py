"""8-bit linear layers of Llama-3.1-8B: decode steps by bytes of weights, prefill by operations.

cuBLAS in bf16 is among the peers: what quantization is worth.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from shoal.kernels.quantize_rows import quantize_rows
from shoal.kernels.w8a8_matmul import w8a8_matmul

from .case import Call, Case, FlopRate
from .linear_layers import DECODE, LAYERS, PREFILL_TOKENS, TARGET, num_sets

KINDS: dict[torch.dtype, FlopRate] = {torch.float8_e4m3fn: "fp8", torch.int8: "int8"}


def cases(device: torch.device) -> Iterator[Case]:
    for layer, num_tokens in DECODE:
        yield _case(device, layer, num_tokens, torch.float8_e4m3fn)
    yield _case(device, "gate_up", PREFILL_TOKENS, torch.float8_e4m3fn)
    yield _case(device, "gate_up", PREFILL_TOKENS, torch.int8)


def _case(device: torch.device, layer: str, num_tokens: int, dtype: torch.dtype) -> Case:
    out_dim, dim = LAYERS[layer]
    dense = torch.randn(out_dim, dim, device=device, dtype=torch.bfloat16)
    codes, scale = quantize_rows(dense, dtype=dtype)
    is_decode = num_tokens < PREFILL_TOKENS
    sets = num_sets(codes.numel()) if is_decode else 1
    weights = [codes, *(codes.clone() for _ in range(sets - 1))]
    dense_weights = [dense, *(dense.clone() for _ in range(sets - 1))]
    x = torch.randn(num_tokens, dim, device=device, dtype=torch.bfloat16)
    x_codes, x_scale = quantize_rows(x, dtype=dtype)

    peers: dict[str, Call] = {"cuBLAS bf16": lambda i: x @ dense_weights[i].t()}
    if dtype == torch.int8:
        peers["torch._int_mm, int32 out"] = lambda i: torch._int_mm(x_codes, weights[i].t())
    else:
        row = scale.t().contiguous()
        peers["torch._scaled_mm, scales by row"] = lambda i: torch._scaled_mm(
            x_codes, weights[i].t(), x_scale, row, out_dtype=torch.bfloat16, use_fast_accum=True
        )
    return Case(
        name=f"w8a8_matmul/{layer}-{num_tokens}-{KINDS[dtype]}",
        call=lambda i: w8a8_matmul(x_codes, weights[i], x_scale=x_scale, weight_scale=scale),
        bytes_moved=codes.numel() + x_codes.numel() + 2 * num_tokens * out_dim,
        flops=2 * num_tokens * out_dim * dim,
        flop_rate=KINDS[dtype],
        num_inputs=sets,
        peers=peers,
        peers_capturable=True,
        target=TARGET if is_decode else None,
    )
