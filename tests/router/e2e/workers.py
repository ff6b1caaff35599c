"""Fake workers: `shoal fake-worker` on ports they keep when they are started again."""

from __future__ import annotations

import signal
from typing import Any

import httpx

from tests.ports import free_port
from tests.router.e2e.metrics import Metrics, parse_metrics
from tests.router.e2e.processes import Nursery, Program, until

FAST = ("--ttft", "0.005", "--itl", "0.002")
MODEL = "fake"


class FakeWorker:
    """One address, and the process behind it."""

    def __init__(self, nursery: Nursery, *options: str) -> None:
        self._nursery = nursery
        self._options = options or FAST
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._client = httpx.Client(base_url=self.url, timeout=60, trust_env=False, verify=False)
        self.program = self._start()

    def _start(self) -> Program:
        return self._nursery.start("fake-worker", "--port", str(self.port), *self._options)

    def wait_ready(self) -> FakeWorker:
        """Until it answers."""
        until(self._is_ready, f"worker {self.url}: {self.program.said()}")
        return self

    def _is_ready(self) -> bool:
        try:
            return self._client.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """kill -9."""
        self.program.close()

    def start_again(self) -> None:
        """Another process on the same address; returns when it answers."""
        if self.program.has_ended is False:
            self.program.close()
        self.program = self._start()
        self.wait_ready()

    def stop(self) -> None:
        """It hangs: connections stay open, nothing is answered."""
        self.program.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.program.signal(signal.SIGCONT)

    def fail(self, *kinds: str | dict[str, Any]) -> None:
        """Switch faults on, and all others off."""
        faults = [{"kind": kind} if isinstance(kind, str) else kind for kind in kinds]
        self._client.post("/faults", json={"faults": faults}).raise_for_status()

    def num_faults(self) -> int:
        """Requests that met a fault since they were switched on."""
        counts: dict[str, int] = self._client.get("/faults").json()["counts"]
        return sum(counts.values())

    def metrics(self) -> Metrics:
        return parse_metrics(self._client.get("/metrics").text)

    @property
    def num_running(self) -> int:
        """Requests it works at now."""
        return int(self.metrics().sum("vllm:num_requests_running"))

    @property
    def num_answered(self) -> int:
        """Answers begun so far, whole or not."""
        return int(self.metrics().sum("vllm:request_success_total"))

    def close(self) -> None:
        self._client.close()
        self.program.close()
