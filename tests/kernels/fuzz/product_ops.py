"""Matrix products: 8-bit and 4-bit weights, experts, adapters."""

from __future__ import annotations

import torch

from shoal.kernels.int4_weight import quantize_int4
from shoal.kernels.lora import add_lora
from shoal.kernels.moe import moe_mlp
from shoal.kernels.quantize_rows import quantize_rows_torch
from shoal.kernels.w4a16_matmul import dequantize_int4, w4a16_matmul
from shoal.kernels.w8a8_matmul import w8a8_matmul, w8a8_matmul_torch
from tests.kernels.fuzz.draw import Draw
from tests.kernels.triton.closeness import assert_as_exact_as
from tests.kernels.triton.test_lora import Layer as Adapters
from tests.kernels.triton.test_lora import exact_lora
from tests.kernels.triton.test_moe import Layer as Experts


def _shape(draw: Draw) -> tuple[int, int, int]:
    """Tokens, outputs, inputs."""
    return (
        draw.size("num_tokens", 9, gpu=300),
        draw.size("out_dim", 40, gpu=700, least=1),
        draw.size("dim", 130, gpu=2000, least=1),
    )


def w8a8(draw: Draw) -> None:
    num_tokens, out_dim, dim = _shape(draw)
    on_gpu = draw.device.type == "cuda"
    codes = draw.pick("codes", (torch.int8, torch.float8_e4m3fn) if on_gpu else (torch.int8,))
    x, x_scale = quantize_rows_torch(draw.normal(num_tokens, dim), dtype=codes)
    weight, weight_scale = quantize_rows_torch(draw.normal(out_dim, dim), dtype=codes)
    bias = draw.normal(out_dim) if draw.flag("bias") else None
    # Hopper's tensor cores add products of fp8 with some 14 bits: below fp32, above bf16.
    wide = draw.float_dtype("out_dtype") if codes == torch.int8 else torch.bfloat16
    options = {
        "x_scale": x_scale,
        "weight_scale": weight_scale,
        "bias": bias,
        "out_dtype": wide,
    }
    exact = x.double() @ weight.double().t() * x_scale.double() * weight_scale.double().t()
    if bias is not None:
        exact = exact + bias.double()
    assert_as_exact_as(
        w8a8_matmul_torch(x, weight, **options), w8a8_matmul(x, weight, **options), exact
    )


def w4a16(draw: Draw) -> None:
    num_tokens, out_dim, dim = _shape(draw)
    dtype = draw.narrow_dtype()
    x = draw.normal(num_tokens, dim, dtype=dtype)
    bias = draw.normal(out_dim, dtype=dtype) if draw.flag("bias") else None
    weight = quantize_int4(
        draw.normal(out_dim, dim, dtype=dtype),
        group_size=draw.pick("group_size", (64, 128)),
        symmetric=draw.flag("symmetric"),
    )
    floats = dequantize_int4(weight)
    exact = x.double() @ floats.double().t()
    if bias is not None:
        exact = exact + bias.double()
    torch_result = torch.nn.functional.linear(x, floats.to(dtype), bias)
    assert_as_exact_as(torch_result, w4a16_matmul(x, weight, bias=bias), exact)


def experts(draw: Draw) -> None:
    num_experts = draw.size("num_experts", 6, gpu=20, least=1)
    layer = Experts(
        draw.device,
        draw.size("num_tokens", 7, gpu=60),
        num_experts,
        draw.size("top_k", min(num_experts, 4), least=1),
        8 * draw.size("dim / 8", 9, gpu=60, least=1),
        8 * draw.size("inner / 8", 7, gpu=60, least=1),
        draw.narrow_dtype(),
    )
    if layer.ids.numel() and draw.flag("a token without an expert"):
        layer.ids.view(-1)[0] = -1
    result = moe_mlp(
        layer.x, layer.gate_up, layer.down, topk_weights=layer.weights, topk_ids=layer.ids
    )
    assert_as_exact_as(layer.twin(), result, layer.exact())


def adapters(draw: Draw) -> None:
    dtype = draw.product_dtype()
    layer = Adapters(
        draw.device,
        draw.size("num_tokens", 9, gpu=200),
        draw.size("num_adapters", 4, gpu=9, least=1),
        draw.pick("max_rank", (8, 16, 24, 64)),
        draw.size("dim", 70, gpu=1000, least=1),
        tuple(
            draw.size(f"slice_{i}", 40, gpu=500, least=1)
            for i in range(draw.size("slices", 3, least=1))
        ),
        dtype,
    )
    result = add_lora(
        layer.out.clone(),
        layer.x,
        layer.a,
        layer.b,
        mapping=layer.mapping,
        ranks=layer.ranks,
        slice_sizes=layer.slices,
    )
    assert_as_exact_as(layer._torch(dtype), result, exact_lora(layer))
