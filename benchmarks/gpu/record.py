"""Write a run's JSON into RESULTS.md: the GPU machine often has nothing but the source tree.

python -m shoal.benchmarks.gpu.record benchmarks/results/gpu.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shoal.benchmarks.results_file import write_section

RESULTS = Path(__file__).resolve().parents[1] / "RESULTS.md"
COMMAND = "make bench-gpu"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m shoal.benchmarks.gpu.record")
    parser.add_argument("json", type=Path, help="what `make bench-gpu ARGS='--json FILE'` wrote")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    args = parser.parse_args(arguments)
    write_section(args.results, COMMAND, section(json.loads(args.json.read_text())))
    return 0


def section(run: Mapping[str, Any]) -> str:
    """The Markdown of one run."""
    floors = run["floors"]
    rates = ", ".join(f"{name} {rate:,}" for name, rate in floors["tflop_per_s"].items())
    parts = [
        "# The GPU kernels and engine beside the floors of their GPU",
        "Made by `python -m shoal.benchmarks.gpu.record` from [results/gpu.json](results/gpu.json):"
        " do not edit. What was tried and why: [docs/performance](../docs/performance/gpu.md).",
        f"- GPU: {run['gpu']}; torch {run['torch']}, triton {run['triton']}\n"
        f"- Floors of the same run: copy {floors['copy_gb_per_s']:,} GB/s, read and written;"
        f" products of 8192^3, TFLOP/s: {rates}\n"
        f"- Command: `{COMMAND}`, {run['seconds']} s",
        "## Kernels",
        "Medians. Of the floor: the bytes (each input read once, each output written once) or the"
        " operations, whichever takes longer, at the rates above; 100 % is the floor.",
        _kernels(run["kernels"]),
    ]
    if "engine" in run:
        parts += ["## Engine", _engine(run["engine"])]
    return "\n\n".join(parts)


def _kernels(kernels: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        "| case | us | of the floor | target | rate | best peer |",
        "|---|---|---|---|---|---|",
    ]
    for name, case in kernels.items():
        target, peers = case["target"], case["peers_us"]
        wanted = "" if target is None else f"{target:.0%}"
        if target is not None and case["of_floor"] < target:
            wanted += ", missed"
        peer = ""
        if peers:
            best = min(peers, key=peers.__getitem__)
            peer = f"{best} {peers[best]:,.1f} us, **{case['ratio_to_best_peer']:.2f}**"
        lines.append(
            f"| {name} | {case['us']:,.1f} | {case['of_floor']:.0%} | {wanted} | {case['rate']} |"
            f" {peer} |"
        )
    return "\n".join(lines)


def _engine(engine: Mapping[str, Any]) -> str:
    targets, load = engine["targets"], engine["load"]
    lines = [
        "The shape of Llama-3.1-8B with random bf16 weights; scheduler, runner and GPU, no HTTP.",
        "",
        "| | measured | target |",
        "|---|---|---|",
    ]
    for step in engine["decode"]:
        name = f"decode step, {step['num_reqs']} requests of {step['context']:,} tokens"
        lines.append(
            f"| {name} | {step['step_ms']:.1f} ms, {step['times_floor']:.2f} times the floor |"
            f" {targets['times_floor'] if step['num_reqs'] == 64 else ''} |"
        )
    what = f"{load['num_requests']} requests, {load['prompt_len']} tokens in"
    lines.append(
        f"| output tokens/s, {what}, {load['output_len']} out | {load['output_tokens_per_s']:,} | |"
    )
    lines.append(
        f"| the device waits between two decode steps | {load['device_gap_us']:.0f} us |"
        f" {targets['device_gap_us']} us |"
    )
    peer = engine.get("transformers", {})
    if "output_tokens_per_s" in peer:
        lines.append(
            f"| the same requests in transformers {peer['version']}, continuous batching"
            f" ({peer['attention']}) | {peer['output_tokens_per_s']:,} tokens/s:"
            f" ours are {peer['ratio']:.1f} times as many |"
            f" {targets['ratio_to_transformers']:g} times |"
        )
    elif peer:
        lines.append(f"| transformers | {peer['failed']} | |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
