"""Time a scheduling step of Shoal and of vLLM in turns, and print the ratio.

    python -m shoal.benchmarks.scheduler [--vllm-python .peers/vllm/bin/python] [--rounds 12]

Both sides live in processes of their own and take turns, a round each, so that a machine whose
speed drifts slows both alike; medians are over all steps of all rounds, the ratio is the median
of the ratios of neighbouring rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from rich.console import Console
from rich.progress import track

from shoal.benchmarks.environment import environment
from shoal.benchmarks.peers.folder import PeersFolder

HERE = Path(__file__).parent
PEERS = HERE.parent / "peers"


class Side:
    """One scheduler in its process; it answers a line with the microseconds of one round."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env={**os.environ, "PYTHONPATH": str(PEERS), "VLLM_NO_USAGE_STATS": "1"},
        )  # fmt: skip
        self.version: str = self._answer()["version"]

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(("{", "[")) and line.rstrip().endswith(("}", "]")):
                return json.loads(line)
        code = self._process.wait(timeout=10)
        raise SystemExit(f"{self._process.args!r} ended with exit code {code} and no answer")

    def round(self) -> list[float]:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        times: list[float] = self._answer()
        return times

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()


def p99(values: list[float]) -> float:
    return quantiles(values, n=100)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vllm-python", default=str(PeersFolder().vllm_python))
    parser.add_argument("--rounds", type=int, default=12)
    args = parser.parse_args()
    if not Path(args.vllm_python).exists():
        raise SystemExit(f"no {args.vllm_python}: `make bench-scheduler` installs vLLM there")

    sides = {
        "shoal": Side([sys.executable, "-m", "shoal.benchmarks.scheduler.shoal_side"]),
        "vllm": Side([args.vllm_python, str(HERE / "vllm_side.py")]),
    }
    times: dict[str, list[list[float]]] = {name: [] for name in sides}
    try:
        for _ in track(range(args.rounds), "rounds", console=Console(stderr=True), transient=True):
            for name, side in sides.items():
                times[name].append(side.round())
    finally:
        for side in sides.values():
            side.close()

    all_steps = {name: [us for round_ in rounds for us in round_] for name, rounds in times.items()}
    pairs = zip(times["shoal"], times["vllm"], strict=True)
    ratios = [median(ours) / median(theirs) for ours, theirs in pairs]
    for name, side in sides.items():
        print(
            f"{name:>6} {side.version:<8} schedule + update_from_output, 256 decodes: median"
            f" {median(all_steps[name]):8.1f} us, p99 {p99(all_steps[name]):8.1f} us"
        )
    result = {
        "benchmark": "scheduler",
        "shoal_us_median": round(median(all_steps["shoal"]), 1),
        "shoal_us_p99": round(p99(all_steps["shoal"]), 1),
        "vllm_us_median": round(median(all_steps["vllm"]), 1),
        "vllm_us_p99": round(p99(all_steps["vllm"]), 1),
        "ratio_to_vllm": round(median(ratios), 4),
        "steps": len(all_steps["shoal"]),
        "vllm_version": sides["vllm"].version,
        **environment(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
