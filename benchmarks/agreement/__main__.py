"""Do other harnesses measure the same? TTFT, ITL and throughput of one server, in turns.

    python -m shoal.benchmarks.agreement [--repeats 3] [--url URL --model NAME] [--json FILE]

The server is a fake worker of known latency unless --url names another. Ratios are Shoal's figure
over the other's, the median of neighbouring runs. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from shoal import __version__
from shoal.benchmarks.environment import environment
from shoal.benchmarks.peers.commands import ServerCommand
from shoal.benchmarks.peers.folder import PeersFolder
from shoal.benchmarks.peers.running import running

from .harnesses import (
    Figures,
    Harness,
    HarnessFailed,
    Question,
    guidellm,
    shoal_bench,
    vllm_bench_serve,
)

FIGURES = ("ttft_p50_s", "itl_p50_s", "output_tokens_per_s")
TTFT_S = 0.5
ITL_S = 0.02


@contextmanager
def server(url: str | None, model: str | None) -> Iterator[tuple[str, str]]:
    """(url, model): what was named, or a fake worker while it is needed."""
    if url is not None:
        yield url, model or ""
        return
    command = ServerCommand(
        name="fake-worker",
        argv=[
            str(Path(sys.executable).with_name("shoal")), "fake-worker", "--port", "{port}",
            "--ttft", str(TTFT_S), "--itl", str(ITL_S),
        ],
        version=__version__,
        settings="",
        model="fake",
    )  # fmt: skip
    with running(command) as fake:
        yield fake.url, "fake"


def rotated(names: list[str], turn: int) -> list[str]:
    """So that nobody is always first."""
    return names[turn % len(names) :] + names[: turn % len(names)]


def ratios(runs: dict[str, list[Figures]]) -> dict[str, dict[str, float]]:
    """Shoal's figure over each other harness's: medians of the repeats' ratios."""
    return {
        name: {
            figure: round(
                median(a[figure] / b[figure] for a, b in zip(runs["shoal"], other, strict=True)), 4
            )
            for figure in FIGURES
        }
        for name, other in runs.items()
        if name != "shoal"
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--input-len", type=int, default=128)
    parser.add_argument("--output-len", type=int, default=64)
    parser.add_argument("--url")
    parser.add_argument("--model")
    parser.add_argument("--json", type=Path, help="write what is printed here, too")
    args = parser.parse_args()

    folder = PeersFolder()
    harnesses: dict[str, Harness] = {
        "shoal": shoal_bench,
        "vllm bench serve": vllm_bench_serve(folder),
        "guidellm": guidellm(folder),
    }
    console = Console(stderr=True)
    runs: dict[str, list[Figures]] = {name: [] for name in harnesses}
    try:
        with server(args.url, args.model) as (url, model):
            for turn in range(args.repeats):
                question = Question(
                    url=url, model=model, concurrency=args.concurrency,
                    num_requests=args.requests, input_len=args.input_len,
                    output_len=args.output_len, seed=1 + turn,
                )  # fmt: skip
                for name in rotated(list(harnesses), turn):
                    figures = harnesses[name](question)
                    runs[name].append(figures)
                    console.print(f"{name}: {json.dumps(dict(figures))}", highlight=False)
    except HarnessFailed as error:
        console.print(str(error), style="red", markup=False)
        return 1

    table = Table("", *FIGURES, title="medians")
    for name, found in runs.items():
        table.add_row(name, *(f"{median(run[figure] for run in found):.4g}" for figure in FIGURES))
    console.print(table)
    summary = {
        "benchmark": "agreement",
        "server": args.url or f"fake worker, TTFT {TTFT_S} s, ITL {ITL_S} s",
        "concurrency": args.concurrency,
        "repeats": args.repeats,
        "ratio_to": ratios(runs),
        **environment(),
    }
    if args.json is not None:
        args.json.write_text(json.dumps({**summary, "runs": runs}, indent=1) + "\n")
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
