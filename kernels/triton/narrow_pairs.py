"""8-bit codes of K and V, read two to a 16-bit word and widened to fp16 in registers.

Matrix operands reach the registers by instructions that move 16-bit words. A tile of 8-bit codes
would have to be gathered byte by byte; taken as words of two neighbours in head_dim, it moves like
a tile of fp16 with half the columns, and splits into even and odd columns where it is used.
Both types fit fp16 exactly.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def even_codes(words, IS_FP8: tl.constexpr, ASSEMBLY: tl.constexpr):
    """The low bytes of int16 words as fp16."""
    if ASSEMBLY:
        if IS_FP8:
            values = tl.inline_asm_elementwise(
                "{ .reg .b32 p; .reg .b16 a, b; prmt.b32 p, $1, 0, 0x4420; mov.b32 {a, b}, p;"
                " cvt.rn.f16x2.e4m3x2 $0, a; }",
                "=r,r", [words], dtype=tl.float16, is_pure=True, pack=2,
            )  # fmt: skip
        else:
            # 0x6400 is 1024 in fp16, whose last bit is worth 1: 0x6400 + (code ^ 0x80) is
            # 1024 + 128 + code, and 0x6480 is 1152.
            values = tl.inline_asm_elementwise(
                "{ .reg .b32 p; lop3.b32 p, $1, 0x00FF00FF, 0x64806480, 0x6A;"
                " sub.f16x2 $0, p, $2; }",
                "=r,r,r", [words, _bias(words)], dtype=tl.float16, is_pure=True, pack=2,
            )  # fmt: skip
    else:
        values = _widen((words & 0xFF).to(tl.uint8), IS_FP8)
    return values


@triton.jit
def odd_codes(words, IS_FP8: tl.constexpr, ASSEMBLY: tl.constexpr):
    """The high bytes of int16 words as fp16."""
    if ASSEMBLY:
        if IS_FP8:
            values = tl.inline_asm_elementwise(
                "{ .reg .b32 p; .reg .b16 a, b; prmt.b32 p, $1, 0, 0x4431; mov.b32 {a, b}, p;"
                " cvt.rn.f16x2.e4m3x2 $0, a; }",
                "=r,r", [words], dtype=tl.float16, is_pure=True, pack=2,
            )  # fmt: skip
        else:
            values = tl.inline_asm_elementwise(
                "{ .reg .b32 p; prmt.b32 p, $1, 0, 0x4341; xor.b32 p, p, 0x64806480;"
                " sub.f16x2 $0, p, $2; }",
                "=r,r,r", [words, _bias(words)], dtype=tl.float16, is_pure=True, pack=2,
            )  # fmt: skip
    else:
        values = _widen(((words >> 8) & 0xFF).to(tl.uint8), IS_FP8)
    return values


@triton.jit
def _bias(words):
    return tl.full(words.shape, 1152.0, tl.float16)


@triton.jit
def _widen(codes, IS_FP8: tl.constexpr):
    """Without the instructions of newer GPUs. A NaN of e4m3 becomes 480."""
    if IS_FP8:
        # The same bits in fp16, whose exponent counts from 15 and not from 7: 2^8 too small.
        bits = ((codes & 0x80).to(tl.uint16) << 8) | ((codes & 0x7F).to(tl.uint16) << 7)
        values = bits.to(tl.float16, bitcast=True) * 256.0
    else:
        values = codes.to(tl.int8, bitcast=True).to(tl.float16)
    return values
