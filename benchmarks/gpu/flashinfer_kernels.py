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

MODULES = ("bench_prefill_attention", "bench_paged_attention", "bench_sample")
"""Whose cases have FlashInfer as a peer; the first of them has all built that the others need."""


def main() -> int:
    if not torch.cuda.is_available():
        print("error: no CUDA device", file=sys.stderr)
        return 2
    device = torch.device("cuda", 0)
    for module in MODULES:
        started = time.monotonic()
        cases = importlib.import_module(f"{__package__}.{module}").cases(device)
        case = next((case for case in cases if "flashinfer" in case.peers), None)
        if case is None:
            print(f"{module}: FlashInfer is not installed")
            continue
        case.peers["flashinfer"](0)
        torch.cuda.synchronize()
        print(f"{case.name}: FlashInfer's kernel after {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
