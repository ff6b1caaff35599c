"""Sixteen-bit words of four 4-bit codes to four tiles of 16-bit floats, in registers.

A float whose mantissa's last bit is worth 1 holds a small integer in its last bits: or-ing a code
into 0x4300 gives the bf16 128 + code, into 0x6400 the fp16 1024 + code, and subtracting
128 (1024) + zero leaves code - zero exactly. Two codes of neighbouring words are made at once, in
the halves of a 32-bit register (Kim et al., 2022, "Who says elephants can't run"; Marlin).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..dispatch import gpu_of
from ..int4_weight import BLOCK_WORDS, SYMMETRIC_ZERO

_ZERO = tl.constexpr(SYMMETRIC_ZERO)
_WORDS = tl.constexpr(BLOCK_WORDS)
_HOPPER = (9, 0)
TRITON_DTYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


def is_plain(device: torch.device) -> bool:
    """Whether codes become floats by conversion: Triton's interpreter has no inline assembly, and
    GPUs before Hopper do not subtract bf16."""
    return device.type != "cuda" or gpu_of(device).capability < _HOPPER


@triton.jit
def unpack_nibbles(
    words,
    zero,
    scale,
    SHIFT: tl.constexpr,
    FOLD: tl.constexpr,
    DTYPE: tl.constexpr,
    PLAIN: tl.constexpr,
):
    """Nibble SHIFT / 4 of int16 words, minus `zero`, as a tile of DTYPE (bf16 or fp16).

    `zero` holds 128 + zero (bf16) or 1024 + zero (fp16) in DTYPE, see `zero_bias`; it broadcasts to
    words. When FOLD, the result is multiplied by `scale` (of DTYPE, too), and rounded.
    """
    if PLAIN:
        bias: tl.constexpr = 128.0 if tl.bfloat16 == DTYPE else 1024.0
        codes = ((words.to(tl.int32) >> SHIFT) & 0xF).to(tl.float32) + bias
        floats = codes - zero.to(tl.float32)
        if FOLD:
            floats = floats * scale.to(tl.float32)
        floats = floats.to(DTYPE)
    else:
        # lop3 0xEA is (a & b) | c.
        suffix: tl.constexpr = "bf16x2" if tl.bfloat16 == DTYPE else "f16x2"
        magic: tl.constexpr = "0x43004300" if tl.bfloat16 == DTYPE else "0x64006400"
        zeros = tl.broadcast_to(zero, words.shape)
        if FOLD:
            floats = tl.inline_asm_elementwise(
                f"{{ .reg .b32 t; shr.u32 t, $1, {SHIFT};"
                f" lop3.b32 t, t, 0x000F000F, {magic}, 0xEA;"
                f" sub.rn.{suffix} t, t, $2; mul.rn.{suffix} $0, t, $3; }}",
                "=r,r,r,r",
                [words, zeros, tl.broadcast_to(scale, words.shape)],
                dtype=zeros.dtype,
                is_pure=True,
                pack=2,
            )
        else:
            floats = tl.inline_asm_elementwise(
                f"{{ .reg .b32 t; shr.u32 t, $1, {SHIFT};"
                f" lop3.b32 t, t, 0x000F000F, {magic}, 0xEA; sub.rn.{suffix} $0, t, $2; }}",
                "=r,r,r",
                [words, zeros],
                dtype=zeros.dtype,
                is_pure=True,
                pack=2,
            )
    return floats


@triton.jit
def zero_bias(zero_codes, DTYPE: tl.constexpr):
    """What `unpack_nibbles` subtracts for zeros given as codes 0 to 15."""
    bias: tl.constexpr = 128.0 if tl.bfloat16 == DTYPE else 1024.0
    return (zero_codes.to(tl.float32) + bias).to(DTYPE)


@triton.jit
def load_groups(
    values_ptr, block, columns, num_groups, out_dim, GROUPS: tl.constexpr, BLOCK_N: tl.constexpr
):
    """The GROUPS values of a block of k for each of a tile's columns: [BLOCK_N, GROUPS]."""
    groups = block * GROUPS + tl.arange(0, GROUPS)
    offsets = groups[None, :].to(tl.int64) * out_dim + columns[:, None]
    mask = (groups[None, :] < num_groups) & (columns[:, None] < out_dim)
    return tl.load(values_ptr + offsets, mask=mask, other=0)


@triton.jit
def column_of_groups(values, GROUP: tl.constexpr, GROUPS: tl.constexpr, BLOCK_N: tl.constexpr):
    """values[:, GROUP] of [BLOCK_N, GROUPS]: 2 or 4 values that one thread holds."""
    if GROUPS == 4:
        even, odd = values.reshape(BLOCK_N, 2, 2).split()
        if GROUP % 2 == 0:
            low, high = even.split()
        else:
            low, high = odd.split()
        if GROUP // 2 == 0:
            column = low
        else:
            column = high
    else:
        low, high = values.split()
        if GROUP == 0:
            column = low
        else:
            column = high
    return column


@triton.jit
def load_quarter(x, first_row, start, dim, TMA_X: tl.constexpr, EVEN_K: tl.constexpr):
    """64 entries of the rows of a tile from `start` on, [BLOCK_M, 64].

    `x` is a descriptor when TMA_X, else pointers [BLOCK_M, 64] to the first 64 entries of rows that
    are all there: a mask of rows would take registers, and with them programs from the SMs.
    """
    if TMA_X:
        tile = x.load([first_row, start])
    elif EVEN_K:
        tile = tl.load(x + start)
    else:
        tile = tl.load(x + start, mask=start + tl.arange(0, _WORDS)[None, :] < dim, other=0.0)
    return tile


@triton.jit
def add_int4_product(
    words,
    scales,
    zeros,
    x,
    first_row,
    first_k,
    dim,
    sums,
    TMA_X: tl.constexpr,
    EVEN_K: tl.constexpr,
    FOLD: tl.constexpr,
    HAS_ZEROS: tl.constexpr,
    GROUPS: tl.constexpr,
    DTYPE: tl.constexpr,
    PLAIN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """sums [BLOCK_N, BLOCK_M] + weight @ x^T over a block of 256 entries from first_k on.

    words: [BLOCK_N, 64]; scales, zeros: [BLOCK_N, GROUPS]; x, first_row: see `load_quarter`.
    The weight is the matrix unit's first operand, the one that may come from registers. A group's
    sum is multiplied by its scale afterwards, in fp32, or, when FOLD, each weight before, in DTYPE:
    as exact as a weight that was dequantized beforehand.

    Each quarter of x is loaded where it is used, so that only that one is waited for there.
    """
    for g in tl.static_range(GROUPS):
        if HAS_ZEROS:
            zero = zero_bias(column_of_groups(zeros, g, GROUPS, BLOCK_N), DTYPE)[:, None]
        else:
            zero = zero_bias(tl.full((BLOCK_N, 1), _ZERO, tl.int32), DTYPE)
        scale = column_of_groups(scales, g, GROUPS, BLOCK_N)[:, None]
        if FOLD:
            scale = scale.to(DTYPE)
            part = sums
        else:
            part = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.float32)
        for i in tl.static_range(4 // GROUPS):
            quarter = load_quarter(
                x, first_row, first_k + (g * (4 // GROUPS) + i) * _WORDS, dim, TMA_X, EVEN_K
            )
            weight = unpack_nibbles(
                words, zero, scale, 4 * (g * (4 // GROUPS) + i), FOLD, DTYPE, PLAIN
            )
            part = tl.dot(weight, quarter.T, part)
        if FOLD:
            sums = part
        else:
            sums += part * scale.to(tl.float32)
    return sums
