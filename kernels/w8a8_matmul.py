"""Matrix product of 8-bit activations and 8-bit weights, for linear layers of quantized models."""

from __future__ import annotations

import torch
from torch import Tensor

from .dispatch import uses_triton
from .quantize_rows import CODE_MAX, has_codes

OUT_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def w8a8_matmul(
    x: Tensor,
    weight: Tensor,
    *,
    x_scale: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None = None,
    out_dtype: torch.dtype = torch.bfloat16,
) -> Tensor:
    """(x @ weight^T) * x_scale * weight_scale^T + bias.

    x: [num_tokens, dim] and weight: [out_dim, dim], both int8 (summed in int32, exactly) or both
    float8_e4m3fn (summed in fp32); x_scale: [num_tokens] or [num_tokens, 1] fp32; weight_scale:
    [out_dim] or [out_dim, 1] fp32; bias: [out_dim]. Scales and bias are applied in fp32. Returns
    [num_tokens, out_dim] of `out_dtype`: bf16, fp16 or fp32.

    A row's result depends on its own values and on the launch bucket of num_tokens only: the
    order of its sum is fixed, there are no atomic additions.
    """
    _check(x, weight, x_scale, weight_scale, bias, out_dtype)
    if x.shape[0] and uses_triton(x) and has_codes(x.device, x.dtype):
        from .triton.w8a8_matmul import w8a8_matmul as w8a8_matmul_triton

        return w8a8_matmul_triton(x, weight, x_scale, weight_scale, bias, out_dtype)
    return w8a8_matmul_torch(
        x, weight, x_scale=x_scale, weight_scale=weight_scale, bias=bias, out_dtype=out_dtype
    )


def w8a8_matmul_torch(
    x: Tensor,
    weight: Tensor,
    *,
    x_scale: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None = None,
    out_dtype: torch.dtype = torch.bfloat16,
) -> Tensor:
    """The meaning of `w8a8_matmul`."""
    # fp64 holds every sum of products of int8 exactly, as int32 does; torch has no int32 product
    # on GPUs for all shapes.
    sum_dtype = torch.float64 if x.dtype == torch.int8 else torch.float32
    out = (x.to(sum_dtype) @ weight.to(sum_dtype).t()).float()
    out = out * x_scale.reshape(-1, 1) * weight_scale.reshape(1, -1)
    if bias is not None:
        out = out + bias.float()
    return out.to(out_dtype)


def _check(
    x: Tensor,
    weight: Tensor,
    x_scale: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    out_dtype: torch.dtype,
) -> None:
    if x.dtype not in CODE_MAX or weight.dtype != x.dtype:
        raise ValueError(
            "w8a8_matmul takes x and weight both int8 or both float8_e4m3fn,"
            f" not {x.dtype} and {weight.dtype}"
        )
    if x.dim() != 2 or weight.dim() != 2 or x.shape[1] != weight.shape[1]:
        raise ValueError(
            "w8a8_matmul takes x [num_tokens, dim] and weight [out_dim, dim],"
            f" not {list(x.shape)} and {list(weight.shape)}"
        )
    for name, scale, num in (
        ("x_scale", x_scale, x.shape[0]),
        ("weight_scale", weight_scale, weight.shape[0]),
    ):
        if scale.dtype != torch.float32 or scale.numel() != num or scale.dim() > 2:
            raise ValueError(
                f"{name} must hold {num} fp32 scales, [{num}] or [{num}, 1];"
                f" it is {scale.dtype} {list(scale.shape)}"
            )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must be [{weight.shape[0]}], not {list(bias.shape)}")
    if out_dtype not in OUT_DTYPES:
        raise ValueError(f"w8a8_matmul returns bf16, fp16 or fp32, not {out_dtype}")
