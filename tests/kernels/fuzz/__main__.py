"""Random shapes for every operation of `kernels/`, for a bounded time.

    python -m tests.kernels.fuzz [--seconds 60] [--seed N] [--only NAME] [--cases N]

On the GPU where there is one, else in Triton's interpreter on tiny shapes. Each case has a seed; a
failure prints it, and `--only NAME --seed N --cases 1` runs that case alone. Exit code 1 if any
case failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is imported, so before any is

from shoal.kernels.dispatch import triton_on_cpu
from tests.kernels.fuzz import attention_ops, product_ops, row_ops, sampling_ops
from tests.kernels.fuzz.draw import Draw

OPERATIONS: dict[str, Callable[[Draw], None]] = {
    "norms": row_ops.norms,
    "activation": row_ops.activation,
    "quantization": row_ops.quantization,
    "gather": row_ops.gather,
    "block_copies": row_ops.block_copies,
    "rope": attention_ops.rope,
    "attention": attention_ops.attention,
    "merges": attention_ops.merges,
    "latent": attention_ops.latent,
    "w8a8": product_ops.w8a8,
    "w4a16": product_ops.w4a16,
    "experts": product_ops.experts,
    "adapters": product_ops.adapters,
    "sampling": sampling_ops.sampling,
    "logprobs": sampling_ops.logprobs,
    "edits": sampling_ops.edits,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.kernels.fuzz", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="of the first case; default: the time"
    )
    parser.add_argument("--only", choices=sorted(OPERATIONS), help="one operation")
    parser.add_argument("--cases", type=int, metavar="N", help="stop after so many")
    args = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        from tests.kernels.triton import interpreter_casts, interpreter_scalars

        interpreter_casts.install()
        interpreter_scalars.install()
    seed = time.time_ns() // 1_000_000 if args.seed is None else args.seed
    names = [args.only] if args.only else list(OPERATIONS)
    print(f"{device}, first seed {seed}, {args.seconds:g} s: {', '.join(names)}", flush=True)
    ran, failed = run(names, seed, device, seconds=args.seconds, cases=args.cases)
    print(", ".join(f"{name} {count}" for name, count in ran.items()))
    print(f"{ran.total()} cases, {failed} failed")
    return 1 if failed or not ran else 0


def run(
    names: Sequence[str], seed: int, device: torch.device, *, seconds: float, cases: int | None
) -> tuple[Counter[str], int]:
    """Cases of each operation that ran, and how many failed in all."""
    ran: Counter[str] = Counter()
    failed, end = 0, time.monotonic() + seconds
    with triton_on_cpu():
        while time.monotonic() < end and (cases is None or ran.total() < cases):
            name = names[ran.total() % len(names)]
            draw = Draw(seed + ran.total(), device)
            ran[name] += 1
            try:
                OPERATIONS[name](draw)
            except Exception as error:
                failed += 1
                told = str(error).strip() or traceback.format_exc()
                print(
                    f"FAILED --only {name} --seed {draw.seed} --cases 1\n"
                    f"  {draw.describe()}\n  {type(error).__name__}: {told}",
                    flush=True,
                )
    return ran, failed


if __name__ == "__main__":
    sys.exit(main())
