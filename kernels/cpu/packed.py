"""Weight matrices in the native kernels' own order, made from GGUF blocks or from floats."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shoal.errors import UnsupportedModel

from .library import MatrixStruct
from .memory import Arena

GROUP = 32
"""Neighbours in a row that share a scale and a minimum."""

BF16 = 16
"""`Format` of matrix.h; codes have their number of bits."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Codes:
    """A quantized matrix: weight = scale * code + minimum."""

    bits: int
    """4 or 8."""
    codes: NDArray[np.uint8]
    """[rows, columns], one code a byte."""
    scales: Floats
    """[rows, ceil(columns / 32)]."""
    minima: Floats

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns)."""
        return self.codes.shape

    def take(self, rows: NDArray[np.intp]) -> Codes:
        """The matrix of the chosen rows, in that order."""
        return Codes(self.bits, self.codes[rows], self.scales[rows], self.minima[rows])

    def floats(self) -> Floats:
        """The weights that the codes stand for."""
        columns = self.shape[1]
        scales = np.repeat(self.scales, GROUP, axis=1)[:, :columns]
        minima = np.repeat(self.minima, GROUP, axis=1)[:, :columns]
        return scales * self.codes + minima


def concatenate(parts: Sequence[Codes]) -> Codes:
    """Matrices of equal width, one below the other; of the widest codes among them."""
    if len(parts) == 1:
        return parts[0]
    return Codes(
        max(part.bits for part in parts),
        np.concatenate([part.codes for part in parts]),
        np.concatenate([part.scales for part in parts]),
        np.concatenate([part.minima for part in parts]),
    )


@dataclass(frozen=True, slots=True)
class PackedMatrix:
    """What the kernels read; keeps the memory that `struct` points to."""

    struct: MatrixStruct
    data: NDArray[np.uint8]
    bias: Floats | None

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.struct.rows, self.struct.columns


class Packer:
    """Packs matrices with the functions of one compiled library."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._arena = Arena()

    def gguf_codes(
        self, type_id: int, blocks: NDArray[np.uint8], shape: tuple[int, int]
    ) -> Codes | None:
        """The codes of a GGUF tensor; None when its type has none (Q6_K, Q2_K, ...).

        blocks: the tensor's bytes; shape: (rows, columns), columns a multiple of the type's block.
        """
        rows, columns = shape
        codes = np.empty(shape, np.uint8)
        scales, minima = (np.empty((rows, columns // GROUP), np.float32) for _ in range(2))
        failed = self._library.shoal_gguf_codes(
            type_id, np.ascontiguousarray(blocks).ctypes.data, rows * columns,
            codes.ctypes.data, scales.ctypes.data, minima.ctypes.data,
        )  # fmt: skip
        if failed:
            return None
        return Codes(CODE_BITS.get(type_id, 8), codes, scales, minima)

    def quantize(self, values: Floats) -> Codes:
        """Symmetric 8-bit codes of a float matrix, a scale for 32 neighbours."""
        rows, columns = values.shape
        values = np.ascontiguousarray(values, np.float32)
        codes = np.empty(values.shape, np.uint8)
        scales, minima = (np.empty((rows, -(-columns // GROUP)), np.float32) for _ in range(2))
        self._library.shoal_quantize(
            values.ctypes.data, rows, columns,
            codes.ctypes.data, scales.ctypes.data, minima.ctypes.data,
        )  # fmt: skip
        return Codes(8, codes, scales, minima)

    def pack(self, matrix: Codes | Floats, bias: Floats | None = None) -> PackedMatrix:
        """Codes stay codes, floats become bf16.

        Raises UnsupportedModel when a scale exceeds half precision.
        """
        rows, columns = matrix.shape
        struct = MatrixStruct(matrix.bits if isinstance(matrix, Codes) else BF16, rows, columns)
        data = self._arena.take(self._library.shoal_packed_bytes(struct))
        if isinstance(matrix, Codes):
            codes, scales, minima = map(
                np.ascontiguousarray, (matrix.codes, matrix.scales, matrix.minima)
            )
            failed = self._library.shoal_pack_codes(
                struct, codes.ctypes.data, scales.ctypes.data, minima.ctypes.data, data.ctypes.data
            )
            if failed:
                raise UnsupportedModel("a scale of the quantized weights exceeds half precision")
        else:
            values = np.ascontiguousarray(matrix, np.float32)
            self._library.shoal_pack_bf16(struct, values.ctypes.data, data.ctypes.data)
        struct.data = data.ctypes.data
        if bias is not None:
            bias = np.ascontiguousarray(bias, np.float32)
            struct.bias = bias.ctypes.data
        return PackedMatrix(struct, data, bias)

    def rows(self, matrix: PackedMatrix, rows: NDArray[np.int64]) -> Floats:
        """The chosen rows as floats: what an embedding lookup gives."""
        out = np.empty((len(rows), matrix.struct.columns), np.float32)
        self._library.shoal_unpack_rows(
            matrix.struct, np.ascontiguousarray(rows).ctypes.data, len(rows), out.ctypes.data
        )
        return out


def matmul(
    library: ctypes.CDLL, matrix: PackedMatrix, x: Floats, *, num_threads: int = 1
) -> Floats:
    """x @ weights^T + bias, [len(x), rows]; for tests and measurements."""
    x = np.ascontiguousarray(x, np.float32)
    out = np.empty((len(x), matrix.struct.rows), np.float32)
    if library.shoal_matmul(matrix.struct, x.ctypes.data, len(x), out.ctypes.data, num_threads):
        raise MemoryError(f"no memory to multiply {len(x)} rows")
    return out


CODE_BITS = {2: 4, 3: 4, 12: 4}
"""GGUF types whose codes have 4 bits (Q4_0, Q4_1, Q4_K); those of the others have 8."""
