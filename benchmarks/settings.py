"""What one load test is asked to do; the same for a run, a step of a sweep and a side of a pair."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from shoal.benchmarks.client.conversation import RequestForm
from shoal.benchmarks.client.messages import ClientPlan, Load
from shoal.benchmarks.workload.lengths import parse_lengths
from shoal.benchmarks.workload.spec import WorkloadSpec, completed
from shoal.benchmarks.workload.tokens import TokenPool

STREAMS_PER_PROCESS = 256
TOKENS_PER_S_PER_PROCESS = 12_800
"""What one process carries with room to spare on a slow core; more get a process each."""


class LoadTest(msgspec.Struct, frozen=True, kw_only=True):
    """One load test of one server."""

    url: str
    form: RequestForm
    workload: WorkloadSpec
    load: Load
    slo: dict[str, float] | None = None
    headers: dict[str, str] = {}
    """Sent with every request; they hold the API key, so no result contains them."""
    timeout_s: float = 600.0
    pid: int | None = None
    """Process of the server, on this machine, whose CPU and memory are watched."""
    num_processes: int | None = None
    repeats: int = 1
    warmup: int = 1
    """Requests before the measurement, of prompts that share nothing with it."""
    save_requests: bool = False
    name: str | None = None

    def plan(self, pool: TokenPool, *, repeat: int = 0) -> ClientPlan:
        """The clients' plan. Every repeat has its own seed: the same arrivals and prompts twice
        would find the answers of the first time in the prefix cache."""
        seed = self.workload.seed + repeat
        return ClientPlan(
            url=self.url,
            headers=self.headers,
            form=self.form,
            workload=msgspec.structs.replace(self.workload, seed=seed),
            pool=pool,
            load=self.load,
            timeout_s=self.timeout_s,
        )

    def processes(self) -> int:
        """How many measuring processes: as asked, or as many as the load needs."""
        if self.num_processes is not None:
            return self.num_processes
        load = self.load
        need = 1.0
        if load.concurrency is not None:
            need = load.concurrency / STREAMS_PER_PROCESS
        elif load.arrivals is not None and self.workload.kind != "trace":
            tokens = parse_lengths(completed(self.workload).output_len or "1").mean
            need = load.arrivals.rate * tokens / TOKENS_PER_S_PER_PROCESS
        return max(1, min(-int(-need // 1), os.cpu_count() or 1))

    def described(self) -> dict[str, Any]:
        """For the result: everything but the headers."""
        config: dict[str, Any] = msgspec.to_builtins(self)
        del config["headers"]
        return config
