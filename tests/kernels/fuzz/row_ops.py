"""Operations over rows: norms, activation, quantization, gather, and block copies."""

from __future__ import annotations

import torch
from torch import Tensor

from shoal.kernels.copy_blocks import swap_blocks, swap_blocks_torch
from shoal.kernels.gather_rows import gather_rows, gather_rows_torch
from shoal.kernels.quantize_rows import quantize_rows, quantize_rows_torch
from shoal.kernels.rms_norm import (
    fused_add_rms_norm,
    fused_add_rms_norm_fp8,
    fused_add_rms_norm_fp8_torch,
    fused_add_rms_norm_torch,
    rms_norm,
    rms_norm_fp8,
    rms_norm_fp8_torch,
    rms_norm_torch,
)
from shoal.kernels.silu_and_mul import (
    silu_and_mul,
    silu_and_mul_fp8,
    silu_and_mul_fp8_torch,
    silu_and_mul_torch,
)
from tests.kernels.fuzz.draw import Draw
from tests.kernels.triton.closeness import assert_as_exact_as

EPS = 1e-5


def _rows(draw: Draw, dim_of: int = 1) -> Tensor:
    """[num_rows, dim * dim_of], sometimes a slice of wider rows that hold NaN beside it."""
    num_rows = draw.size("num_rows", 5, gpu=300)
    dim = draw.size("dim", 200, gpu=9000, least=1) * dim_of
    x = draw.normal(num_rows, dim, dtype=draw.float_dtype())
    if draw.flag("strided"):
        wide = torch.full((num_rows, dim + 8), float("nan"), dtype=x.dtype, device=x.device)
        wide[:, :dim] = x
        x = wide[:, :dim]
    return x


def _values(codes: Tensor, scales: Tensor) -> Tensor:
    return codes.float() * scales


def norms(draw: Draw) -> None:
    x = _rows(draw)
    weight = draw.normal(x.shape[1], dtype=x.dtype)
    add, fp8 = draw.flag("add"), draw.flag("fp8")
    exact_of, stream = x.double(), x
    if add:
        residual = draw.normal(*x.shape, dtype=x.dtype)
        stream = residual + x
        exact_of = stream.double()
    inverse = (exact_of.pow(2).mean(-1, keepdim=True) + EPS).rsqrt()
    exact = exact_of * inverse * weight.double()
    if add and fp8:
        torch_result = _values(
            *fused_add_rms_norm_fp8_torch(x, residual.clone(), weight, eps=EPS)[:2]
        )
        codes, scales, kept = fused_add_rms_norm_fp8(x, residual, weight, eps=EPS)
        result = _values(codes, scales)
    elif add:
        torch_result, _ = fused_add_rms_norm_torch(x, residual.clone(), weight, eps=EPS)
        result, kept = fused_add_rms_norm(x, residual, weight, eps=EPS)
    elif fp8:
        torch_result = _values(*rms_norm_fp8_torch(x, weight, eps=EPS))
        result, kept = _values(*rms_norm_fp8(x, weight, eps=EPS)), x
    else:
        torch_result, kept = rms_norm_torch(x, weight, eps=EPS), x
        result = rms_norm(x, weight, eps=EPS)
    assert torch.equal(kept, stream), "the residual stream is not residual + x"
    assert_as_exact_as(torch_result, result, exact)


def activation(draw: Draw) -> None:
    gate_up = _rows(draw, 2)
    gate, up = gate_up.double().chunk(2, -1)
    exact = gate * gate.sigmoid() * up
    if draw.flag("fp8"):
        torch_result = _values(*silu_and_mul_fp8_torch(gate_up))
        assert_as_exact_as(torch_result, _values(*silu_and_mul_fp8(gate_up)), exact)
    else:
        assert_as_exact_as(silu_and_mul_torch(gate_up), silu_and_mul(gate_up), exact)


def quantization(draw: Draw) -> None:
    x = _rows(draw)
    dtype = draw.pick("codes", (torch.int8, torch.float8_e4m3fn))
    torch_result = _values(*quantize_rows_torch(x, dtype=dtype))
    assert_as_exact_as(torch_result, _values(*quantize_rows(x, dtype=dtype)), x.double())


def gather(draw: Draw) -> None:
    table = _rows(draw)
    count = draw.size("count", 9, gpu=500)
    ids = torch.tensor(
        draw.integers(count, -2, table.shape[0] + 1),
        dtype=draw.pick("ids", (torch.int32, torch.int64)),
        device=draw.device,
    )
    assert torch.equal(gather_rows(table, ids), gather_rows_torch(table, ids))


def block_copies(draw: Draw) -> None:
    """Device to device; and with a GPU, to and from pinned memory."""
    num_tensors = draw.size("num_tensors", 3, gpu=9, least=1)
    here, there = (draw.size(name, 12, least=1) for name in ("blocks_here", "blocks_there"))
    bus = draw.pick(
        "bus", ("none", "to_host", "from_host") if draw.device.type == "cuda" else ("none",)
    )
    sources, destinations = [], []
    for _ in range(num_tensors):
        # Not written down one by one: they follow from the seed.
        bytes_of_block = max(draw.integers(1, 1, 3000)[0] // 8 * 8, 1)
        pair = [
            torch.randint(0, 256, (n, bytes_of_block), dtype=torch.uint8) for n in (here, there)
        ]
        on_host = (bus == "from_host", bus == "to_host")
        pair = [
            x.pin_memory() if host else x.to(draw.device)
            for x, host in zip(pair, on_host, strict=True)
        ]
        sources.append(pair[0])
        destinations.append(pair[1])
    count = draw.size("pairs", min(there, 8))
    goals = torch.randperm(there, generator=torch.Generator().manual_seed(draw.seed))[:count]
    pairs = torch.stack(
        (torch.tensor(draw.integers(count, 0, here - 1), dtype=torch.int64), goals), 1
    )
    expected = [x.clone() for x in destinations]
    swap_blocks_torch(sources, expected, pairs)
    swap_blocks(sources, destinations, pairs)
    if draw.device.type == "cuda":
        torch.cuda.synchronize()
    for index, (a, b) in enumerate(zip(destinations, expected, strict=True)):
        assert torch.equal(a, b), f"tensor {index} of {tuple(a.shape)}"
