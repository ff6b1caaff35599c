"""A contestant while it runs in front of some workers."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from .contestants import Contestant
from .processes import ServerProcess, free_ports
from .usage import tree
from .wish import Wish
from .workers import MODEL, Worker

DRAIN_TIMEOUT_S = 40.0
WARM_UP_REQUESTS = 16
"""So that it has a connection to each worker before anything is measured."""


class RunningRouter:
    """Where clients go, and the processes behind it; none of its own for `direct`."""

    def __init__(self, contestant: Contestant, ports: Sequence[int], workers: Sequence[Worker]):
        self.contestant = contestant
        self.headers = dict(contestant.headers)
        self.ports = list(ports)
        """Clients are spread over them."""
        self.workers = list(workers)
        self.processes: list[ServerProcess] = []
        """The last one is in charge."""

    @property
    def pids(self) -> list[int]:
        """Roots of its process trees."""
        return [process.pid for process in self.processes if not process.has_ended]

    @property
    def num_processes(self) -> int:
        return len(tree(self.pids))

    def replace(self) -> None:
        """Exchange it for a new one while it serves. Raises BenchFailed when that does not end."""
        old = self.processes[-1]
        if self.contestant.replaced_by == "reload":
            old.signal(signal.SIGHUP)
            return
        new = ServerProcess(old.name, [*old.argv, "--takeover"], ready=old.ready, log=old.log)
        self.processes.append(new)
        new.start()
        old.wait_until_ended(DRAIN_TIMEOUT_S)
        new.wait_until_ready()


@contextmanager
def running(
    contestant: Contestant,
    workers: Sequence[Worker],
    folder: Path,
    *,
    cache_aware: bool = False,
    first_byte_timeout_s: float | None = None,
) -> Iterator[RunningRouter]:
    """The router, ready and warm; it and whoever took over from it end with the context."""
    if contestant.command is None:
        yield RunningRouter(contestant, [worker.port for worker in workers], workers)
        return
    port, side_port = free_ports(2)
    wish = Wish(
        worker_urls=tuple(worker.url for worker in workers),
        folder=folder,
        port=port,
        side_port=side_port,
        cache_aware=cache_aware,
        first_byte_timeout_s=first_byte_timeout_s,
    )
    router = RunningRouter(contestant, [port], workers)
    body = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "ready?"}]}
    ready = httpx.Request(
        "POST", f"http://127.0.0.1:{port}/v1/chat/completions",
        headers={"content-type": "application/json", **contestant.headers},
        content=json.dumps(body).encode(),
    )  # fmt: skip
    log = folder / f"{contestant.name}.log"
    router.processes.append(
        ServerProcess(contestant.name, contestant.command(wish), ready=ready, log=log)
    )
    try:
        router.processes[0].start()
        router.processes[0].wait_until_ready()
        with httpx.Client(timeout=5, trust_env=False) as client:
            for _ in range(WARM_UP_REQUESTS):
                client.send(ready)
        yield router
    finally:
        for process in router.processes:
            process.stop()
