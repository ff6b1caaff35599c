"""Build FlashInfer's kernels ahead of their timing: nvcc takes minutes for them.

    python -m shoal.benchmarks.gpu.flashinfer_kernels

FlashInfer builds a kernel when it is first planned, and keeps it in its cache folder. Run beside
the tests, this leaves the benchmark nothing to wait for.
"""

from __future__ import annotations

import importlib
import sys
import time

import torch

MODULES = ("bench_prefill_attention", "bench_paged_attention")
"""Whose cases have FlashInfer as a peer; the first case of each has all it needs built."""


def main() -> int:
    if not torch.cuda.is_available():
        print("error: no CUDA device", file=sys.stderr)
        return 2
    device = torch.device("cuda", 0)
    for module in MODULES:
        started = time.monotonic()
        case = next(importlib.import_module(f"{__package__}.{module}").cases(device))
        call = case.peers.get("flashinfer")
        if call is None:
            print(f"{case.name}: FlashInfer is not installed")
            continue
        call(0)
        torch.cuda.synchronize()
        print(f"{case.name}: FlashInfer's kernel after {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
