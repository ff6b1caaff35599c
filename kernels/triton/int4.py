"""Sixteen-bit words of four 4-bit codes to four tiles of 16-bit floats, in registers.

A float whose mantissa's last bit is worth 1 holds a small integer in its last bits: or-ing a code
into 0x4300 gives the bf16 128 + code, into 0x6400 the fp16 1024 + code, and subtracting
128 (1024) + zero leaves code - zero exactly. Two codes of neighbouring words are made at once, in
the halves of a 32-bit register (Kim et al., 2022, "Who says elephants can't run"; Marlin).
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def unpack_nibbles(
    words, zero, SHIFT: tl.constexpr, DTYPE: tl.constexpr, INTERPRETED: tl.constexpr
):
    """Nibble SHIFT / 4 of int16 words, minus `zero`, as a tile of DTYPE (bf16 or fp16).

    `zero` holds 128 + zero (bf16) or 1024 + zero (fp16) in DTYPE, see `zero_bias`; it broadcasts to
    words.
    """
    if INTERPRETED:  # the interpreter has neither inline assembly nor bf16 arithmetic
        bias: tl.constexpr = 128.0 if tl.bfloat16 == DTYPE else 1024.0
        codes = ((words.to(tl.int32) >> SHIFT) & 0xF).to(tl.float32) + bias
        floats = (codes - zero.to(tl.float32)).to(DTYPE)
    else:
        zeros = tl.broadcast_to(zero, words.shape)
        if tl.bfloat16 == DTYPE:
            if SHIFT == 0:
                floats = _bf16_nibble(words, zeros, "mov.b32 t, $1;")
            elif SHIFT == 4:
                floats = _bf16_nibble(words, zeros, "shr.u32 t, $1, 4;")
            elif SHIFT == 8:
                floats = _bf16_nibble(words, zeros, "shr.u32 t, $1, 8;")
            else:
                floats = _bf16_nibble(words, zeros, "shr.u32 t, $1, 12;")
        else:
            if SHIFT == 0:
                floats = _fp16_nibble(words, zeros, "mov.b32 t, $1;")
            elif SHIFT == 4:
                floats = _fp16_nibble(words, zeros, "shr.u32 t, $1, 4;")
            elif SHIFT == 8:
                floats = _fp16_nibble(words, zeros, "shr.u32 t, $1, 8;")
            else:
                floats = _fp16_nibble(words, zeros, "shr.u32 t, $1, 12;")
    return floats


@triton.jit
def _bf16_nibble(words, zeros, SHIFT: tl.constexpr):
    # lop3 0xEA is (a & b) | c.
    return tl.inline_asm_elementwise(
        "{ .reg .b32 t; " + SHIFT + " lop3.b32 t, t, 0x000F000F, 0x43004300, 0xEA;"
        " sub.rn.bf16x2 $0, t, $2; }",
        "=r,r,r",
        [words, zeros],
        dtype=tl.bfloat16,
        is_pure=True,
        pack=2,
    )


@triton.jit
def _fp16_nibble(words, zeros, SHIFT: tl.constexpr):
    return tl.inline_asm_elementwise(
        "{ .reg .b32 t; " + SHIFT + " lop3.b32 t, t, 0x000F000F, 0x64006400, 0xEA;"
        " sub.rn.f16x2 $0, t, $2; }",
        "=r,r,r",
        [words, zeros],
        dtype=tl.float16,
        is_pure=True,
        pack=2,
    )


@triton.jit
def zero_bias(zero_codes, DTYPE: tl.constexpr):
    """What `unpack_nibbles` subtracts for zeros given as codes 0 to 15."""
    bias: tl.constexpr = 128.0 if tl.bfloat16 == DTYPE else 1024.0
    return (zero_codes.to(tl.float32) + bias).to(DTYPE)
