"""Runs the cases of every kernel: ours, then the peers, on the same tensors."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterator

import torch

from .case import Case
from .floors import Floors
from .result import Result
from .timing import median_us

MODULES = (
    "bench_paged_attention",
    "bench_prefill_attention",
    "bench_mla_decode",
    "bench_rope_and_cache",
    "bench_rms_norm",
    "bench_silu_and_mul",
    "bench_gather_rows",
    "bench_copy_blocks",
    "bench_sample",
    "bench_w8a8_matmul",
    "bench_w4a16_matmul",
    "bench_moe",
    "bench_lora",
)
"""Each has `cases(device) -> Iterator[Case]`; the tensors of a case are made as it is reached."""


def run_kernels(
    device: torch.device, floors: Floors, *, only: str | None, failures: list[str]
) -> Iterator[Result]:
    """Results in order. What goes wrong in one module or peer is told, and the others run."""
    for module in MODULES:
        if only is not None and only not in module:
            continue
        try:
            cases = importlib.import_module(f"{__package__}.{module}").cases(device)
            for case in cases:
                yield run_case(case, floors)
        except Exception:
            failures.append(module)
            print(f"{module} failed:\n{traceback.format_exc()}", file=sys.stderr)
        torch.cuda.empty_cache()


def run_case(case: Case, floors: Floors) -> Result:
    """Time a case and its peers. Raises what the case raises; a peer's failure is a value."""
    us = median_us(case.call, num_inputs=case.num_inputs, capturable=case.capturable)
    peers_us, failed = {}, {}
    for name, call in case.peers.items():
        try:
            peers_us[name] = median_us(
                call, num_inputs=case.num_inputs, capturable=case.peers_capturable
            )
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"[:200]
            torch.cuda.synchronize()
    return Result(
        name=case.name,
        us=us,
        floor_us=floors.seconds(case) * 1e6,
        bound_by="bytes" if floors.is_bound_by_bytes(case) else "operations",
        bytes_moved=case.bytes_moved,
        flops=case.flops,
        peers_us=peers_us,
        failed_peers=failed,
        target=case.target,
    )
