"""The GPU kernels and the engine beside the floors of this GPU.

    python -m shoal.benchmarks.gpu [--only NAME] [--no-engine] [--json FILE]

Floors are measured first: a large copy, and large matrix products. A kernel's floor is its bytes
or its operations at those rates, whichever takes longer. Peers (torch, FlashInfer, transformers)
run on the same tensors where they are installed. Under 8 minutes on an H100. The last line printed
is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import triton

from .floors import measure_floors
from .kernels import run_kernels
from .result import row, table


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m shoal.benchmarks.gpu", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--only", metavar="NAME", help="kernels whose name has this in it")
    parser.add_argument("--no-engine", action="store_true", help="kernels only")
    parser.add_argument("--no-kernels", action="store_true", help="the engine only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    args = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("error: no CUDA device; bench-cpu measures the CPU kernels", file=sys.stderr)
        return 2
    device, started = torch.device("cuda", 0), time.monotonic()
    floors = measure_floors(device)
    figures: dict[str, object] = {
        "benchmark": "gpu",
        "gpu": torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "floors": {
            "copy_gb_per_s": round(floors.copy_bytes_per_s / 1e9),
            "tflop_per_s": {name: round(f / 1e12) for name, f in floors.flops_per_s.items()},
        },
    }
    print(json.dumps(figures), file=sys.stderr)
    failures: list[str] = []
    if not args.no_kernels:
        results = []
        for result in run_kernels(device, floors, only=args.only, failures=failures):
            results.append(result)
            print(" | ".join(row(result)), file=sys.stderr, flush=True)
        print(table([row(result) for result in results]))
        figures["kernels"] = {result.name: result.as_json() for result in results}
        _write(args.json, figures)  # the engine takes longer, and may be cut short
    if not args.no_engine and args.only is None:
        from .engine import measure_engine

        figures["engine"] = measure_engine(device, floors)
    figures["failed"] = failures
    figures["seconds"] = round(time.monotonic() - started)
    _write(args.json, figures)
    print(json.dumps(figures))
    return 1 if failures else 0


def _write(path: Path | None, figures: dict[str, object]) -> None:
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
