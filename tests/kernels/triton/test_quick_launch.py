"""Launches that skip Triton's look at the arguments still find the right program."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from shoal.kernels.triton.quick_launch import QuickLaunch, dependent_launch, specialization


@triton.jit(do_not_specialize=["count"])
def _scaled_kernel(x_ptr, other_ptr, out_ptr, count, stride, factor, BLOCK: tl.constexpr):
    places = tl.arange(0, BLOCK)
    mask = places < count
    values = tl.load(x_ptr + places * stride, mask=mask, other=0).to(tl.float32) * factor
    if other_ptr is not None:
        values += tl.load(other_ptr + places, mask=mask, other=0)
    tl.store(out_ptr + places, values.to(out_ptr.dtype.element_ty), mask=mask)


QUICK = QuickLaunch(_scaled_kernel)


def run(x: torch.Tensor, other: torch.Tensor | None, stride: int, factor: float, count: int):
    out = torch.full((64,), -1.0, device=x.device)
    QUICK((1,), x, other, out, count, stride, factor, BLOCK=64, num_warps=1)
    return out


@pytest.mark.parametrize("_", range(2))  # the second time the program is known
def test_each_kind_of_argument_has_its_own_program(_: int, device: torch.device) -> None:
    x = torch.arange(2048.0, device=device)
    ones = torch.ones(64, device=device)
    for dtype in (torch.float32, torch.float16):
        for start in (0, 1):  # aligned to 16 bytes, and not
            for stride in (1, 3, 16, 17):
                for other in (None, ones):
                    for count, factor in ((64, 2.0), (5, 0.5)):
                        source = x.to(dtype)[start:]
                        expected = torch.full((64,), -1.0, device=device)
                        expected[:count] = source[::stride][:count].float() * factor
                        if other is not None:
                            expected[:count] += 1
                        out = run(source, other, stride, factor, count)
                        assert torch.equal(out, expected)


def test_what_triton_compiles_for() -> None:
    memory = torch.zeros(64, dtype=torch.bfloat16)
    aligned = memory[-memory.data_ptr() % 16 // 2 :]
    odd = aligned[1:]
    key, values = specialization([aligned, odd, None, 1.5, 1, 16, 17, 2**31, 48], frozenset({8}))
    kinds = [torch.bfloat16, (torch.bfloat16,), type(None), float, 1, 16, 0, 48, 0]
    assert key == kinds
    assert values == [aligned.data_ptr(), odd.data_ptr(), None, 1.5, 1, 16, 17, 2**31, 48]


def test_no_dependent_launch_without_a_gpu() -> None:
    assert not dependent_launch(torch.device("cpu"))


@pytest.mark.gpu
def test_a_captured_chain_sees_what_the_kernel_before_it_wrote(device: torch.device) -> None:
    """Programmatic dependent launch overlaps kernels; each waits before it reads."""
    from shoal.kernels.gather_rows import gather_rows

    table = torch.arange(4096, device=device, dtype=torch.int64)[:, None].repeat(1, 512)
    ids = torch.arange(4096, device=device).roll(1)
    graph = torch.cuda.CUDAGraph()
    stale = torch.zeros_like(table)
    gather_rows(table, ids)
    with torch.cuda.graph(graph):
        rows = stale
        for step in range(20):
            rows = gather_rows(table if step == 0 else rows, ids)
    for _ in range(3):
        graph.replay()
        assert torch.equal(rows, table.roll(20, 0))
