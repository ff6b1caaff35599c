"""What this GPU can do at best: bytes copied and matrix operations, measured here and now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .case import Case, FlopRate
from .timing import median_us

COPY_BYTES = 2 << 30
MATRIX_SIZE = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    copy_bytes_per_s: float
    """Bytes read plus bytes written by a large copy inside the device: the driver's or a kernel's,
    whichever is faster."""
    flops_per_s: Mapping[FlopRate, float]
    """Of an 8192^3 product by cuBLAS on random data: two operations a multiply-add."""

    def seconds(self, case: Case) -> float:
        """The least time for a case: its bytes or its operations, whichever takes longer."""
        rate = self.flops_per_s.get(case.flop_rate) or self.flops_per_s["bf16"]
        return max(case.bytes_moved / self.copy_bytes_per_s, case.flops / rate)

    def is_bound_by_bytes(self, case: Case) -> bool:
        return self.seconds(case) == case.bytes_moved / self.copy_bytes_per_s


def measure_floors(device: torch.device) -> Floors:
    """Some 2 s, and 4 GiB of the device's memory, given back at the end."""
    operations = 2 * MATRIX_SIZE**3
    return Floors(
        copy_bytes_per_s=2 * COPY_BYTES / _copy_us(device) * 1e6,
        flops_per_s={name: operations / us * 1e6 for name, us in _matrix_us(device).items()},
    )


def _copy_us(device: torch.device) -> float:
    source = torch.randint(0, 255, (COPY_BYTES,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    words, target_words = source.view(torch.int64), target.view(torch.int64)
    return min(
        median_us(lambda _: target.copy_(source)),
        median_us(lambda _: torch.bitwise_not(words, out=target_words)),
    )


def _matrix_us(device: torch.device) -> dict[FlopRate, float]:
    a, b = (torch.randn(MATRIX_SIZE, MATRIX_SIZE, device=device) for _ in range(2))
    a16, b16 = a.bfloat16(), b.bfloat16()
    times: dict[FlopRate, float] = {"bf16": median_us(lambda _: a16 @ b16)}
    if torch.cuda.get_device_capability(device) >= (8, 9):
        a8, b8 = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn).t()
        one = torch.ones((), device=device)
        times["fp8"] = median_us(
            lambda _: torch._scaled_mm(a8, b8, one, one, out_dtype=torch.bfloat16)
        )
    a_int, b_int = ((x * 30).to(torch.int8) for x in (a, b))
    times["int8"] = median_us(lambda _: torch._int_mm(a_int, b_int.t()))
    return times
