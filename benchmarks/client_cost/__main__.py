"""CPU per streamed token of the load generator, and of the fake worker it talks to.

    python -m shoal.benchmarks.client_cost [--streams 256 500] [--duration 10]

Every stream asks for 50 tokens/s; both programs have one process. CPU time is what counts: it is
hardly changed by what else the machine does. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from rich.console import Console

from shoal import __version__
from shoal.benchmarks.client.conversation import RequestForm
from shoal.benchmarks.client.messages import Load
from shoal.benchmarks.environment import environment
from shoal.benchmarks.peers.commands import ServerCommand
from shoal.benchmarks.peers.running import running
from shoal.benchmarks.run import run_load
from shoal.benchmarks.settings import LoadTest
from shoal.benchmarks.workload.spec import WorkloadSpec

TOKENS_PER_S = 50
OUTPUT_LEN = 500


def measure(num_streams: int, duration_s: float) -> dict[str, float]:
    """Figures of so many streams at once."""
    command = ServerCommand(
        name="fake-worker",
        argv=[
            str(Path(sys.executable).with_name("shoal")), "fake-worker", "--port", "{port}",
            "--ttft", "0.1", "--itl", str(1 / TOKENS_PER_S), "--max-num-seqs", str(num_streams),
        ],
        version=__version__,
        settings="",
        model="fake",
    )  # fmt: skip
    with running(command) as server:
        test = LoadTest(
            url=server.url,
            form=RequestForm(model="fake"),
            workload=WorkloadSpec(input_len="64", output_len=str(OUTPUT_LEN)),
            load=Load(concurrency=num_streams, duration_s=duration_s),
            num_processes=1,
            pid=server.pid,
        )
        result = asyncio.run(run_load(test))
    if result.client is None or result.server is None or result.server.cpu_s is None:
        raise RuntimeError("the run watched neither client nor server")
    client_s = sum(result.client.cpu_cores) * result.duration_s
    return {
        "tokens_per_s": round(result.output_tokens_per_s),
        "itl_p50_ms": round((result.itl_s.p50 or 0.0) * 1e3, 2),
        "tpot_p99_ms": round((result.tpot_s.p99 or 0.0) * 1e3, 2),
        "client_us_per_token": round(client_s / result.output_tokens * 1e6, 1),
        "client_cores": round(client_s / result.duration_s, 2),
        "worker_us_per_token": round(result.server.cpu_s / result.output_tokens * 1e6, 1),
        "worker_cores": round(result.server.cpu_s / result.duration_s, 2),
        "failed": result.num_requests - result.num_succeeded,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[256, 500])
    parser.add_argument("--duration", type=float, default=10.0)
    args = parser.parse_args()
    console = Console(stderr=True)
    found = {}
    for num_streams in args.streams:
        found[str(num_streams)] = measure(num_streams, args.duration)
        console.print(f"{num_streams} streams: {found[str(num_streams)]}", highlight=False)
    print(json.dumps({"benchmark": "client_cost", "streams": found, **environment()}))


if __name__ == "__main__":
    main()
