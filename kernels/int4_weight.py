"""How 4-bit weights lie in memory, and how a float weight becomes one.

A row's codes are packed in blocks of 256 along dim, each block 64 words of 16 bits. Nibble i
(i = 0 the lowest) of word j holds the code of element 64 * i + j of the block:

    word j = code[j] | code[64 + j] << 4 | code[128 + j] << 8 | code[192 + j] << 12

So the same nibble of neighbouring words are neighbouring elements: a 16-bit word in the register
of a matrix unit's operand becomes four 16-bit floats in that place by a shift, a mask and an or,
and no element changes its lane. A group of 64 elements is one nibble of a block, one of 128 two;
a block of a row is 128 bytes, the row of a tile that the copy engine moves without bank conflicts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK_ELEMENTS = 256
"""Elements of a row that are packed together."""
BLOCK_WORDS = 64
"""16-bit words that hold them."""
GROUP_SIZES = (64, 128)
SYMMETRIC_ZERO = 8
"""The code that means 0 where there are no zeros."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Int4Weight:
    """A weight [out_dim, dim] of 4-bit codes: w[n, k] = (code[n, k] - zero[g, n]) * scale[g, n]."""

    packed: Tensor
    """[out_dim, 64 * ceil(dim / 256)] int16, laid out as the module says."""
    scales: Tensor
    """[ceil(dim / group_size), out_dim] bf16, fp16 or fp32: neighbouring rows lie together."""
    zeros: Tensor | None
    """Like scales, uint8 codes 0 to 15; None: 8 everywhere (symmetric)."""
    dim: int
    group_size: int
    """Elements of a row that share a scale: 64 or 128."""

    def __post_init__(self) -> None:
        if self.group_size not in GROUP_SIZES:
            raise ValueError(f"group_size must be 64 or 128, not {self.group_size}")
        if self.packed.dtype != torch.int16 or self.packed.dim() != 2:
            raise ValueError(
                "packed must be int16 [out_dim, words] as pack_int4 makes it,"
                f" not {self.packed.dtype} {list(self.packed.shape)}"
            )
        num_words = -(-self.dim // BLOCK_ELEMENTS) * BLOCK_WORDS
        if self.packed.shape[1] != num_words:
            raise ValueError(
                f"packed must have {num_words} words a row for dim {self.dim},"
                f" not {self.packed.shape[1]}"
            )
        groups = (-(-self.dim // self.group_size), self.out_dim)
        if self.scales.shape != groups or not self.scales.dtype.is_floating_point:
            raise ValueError(
                f"scales must be floats {list(groups)}: one row a group of {self.group_size};"
                f" they are {self.scales.dtype} {list(self.scales.shape)}"
            )
        if self.zeros is not None and (
            self.zeros.shape != groups or self.zeros.dtype != torch.uint8
        ):
            raise ValueError(
                f"zeros must be uint8 {list(groups)},"
                f" not {self.zeros.dtype} {list(self.zeros.shape)}"
            )

    @property
    def out_dim(self) -> int:
        """Rows: the outputs of the layer."""
        return self.packed.shape[0]


def pack_int4(codes: Tensor) -> Tensor:
    """uint8 codes 0 to 15 [..., dim] as int16 words [..., 64 * ceil(dim / 256)]; pads with 0."""
    if codes.dtype != torch.uint8:
        raise ValueError(f"pack_int4 takes uint8 codes, not {codes.dtype}")
    if codes.numel() and int(codes.max()) > 15:
        raise ValueError(f"pack_int4 takes codes of 0 to 15; one is {int(codes.max())}")
    codes = torch.nn.functional.pad(codes, (0, -codes.shape[-1] % BLOCK_ELEMENTS))
    num_blocks = codes.shape[-1] // BLOCK_ELEMENTS
    nibbles = codes.reshape(*codes.shape[:-1], num_blocks, 4, BLOCK_WORDS).to(torch.int32)
    words = nibbles[..., 0, :]
    for i in range(1, 4):
        words = words | nibbles[..., i, :] << (4 * i)
    # int32 to int16 keeps the low 16 bits: the sign is the top bit of the fourth nibble.
    return words.to(torch.int16).flatten(-2)


def unpack_int4(packed: Tensor, *, dim: int) -> Tensor:
    """The inverse of `pack_int4`: uint8 codes [..., dim]."""
    num_blocks = packed.shape[-1] // BLOCK_WORDS
    words = packed.reshape(*packed.shape[:-1], num_blocks, 1, BLOCK_WORDS).to(torch.int32)
    shifts = torch.arange(0, 16, 4, device=packed.device, dtype=torch.int32)
    codes = (words >> shifts[:, None]) & 0xF
    return codes.flatten(-3)[..., :dim].to(torch.uint8)


def quantize_int4(weight: Tensor, *, group_size: int = 128, symmetric: bool = False) -> Int4Weight:
    """Round a float weight [out_dim, dim] to 4-bit codes, group by group (round to nearest).

    Symmetric: scale = max|w| / 7, zero 8. Else the codes 0 to 15 span [min(w, 0), max(w, 0)] of
    the group. Scales are stored in the weight's dtype, and the codes are chosen for the scale as it
    is stored.
    """
    if weight.dim() != 2 or not weight.dtype.is_floating_point:
        raise ValueError(
            f"quantize_int4 takes a float [out_dim, dim], not {weight.dtype} {list(weight.shape)}"
        )
    if group_size not in GROUP_SIZES:
        raise ValueError(f"group_size must be 64 or 128, not {group_size}")
    dim = weight.shape[1]
    padded = torch.nn.functional.pad(weight.float(), (0, -dim % group_size))
    groups = padded.reshape(len(padded), padded.shape[1] // group_size, group_size)
    if symmetric:
        scales = groups.abs().amax(-1) / 7
        zeros = None
    else:
        low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
        scales = (high - low) / 15
        zeros = low
    scales = torch.where(scales > 0, scales, 1.0).to(weight.dtype)
    if zeros is not None:
        zeros = (-zeros / scales.float()).round().clamp(0, 15)
    offset = SYMMETRIC_ZERO if zeros is None else zeros[..., None]
    codes = ((groups / scales.float()[..., None]).round() + offset).clamp(0, 15)
    return Int4Weight(
        packed=pack_int4(codes.to(torch.uint8).flatten(1)[:, :dim]),
        scales=scales.t().contiguous(),
        zeros=None if zeros is None else zeros.to(torch.uint8).t().contiguous(),
        dim=dim,
        group_size=group_size,
    )
