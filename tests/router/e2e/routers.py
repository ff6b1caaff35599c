"""Routers: `shoal route` with a file of settings, and what its admin API tells."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import msgspec

from shoal.router.fleet.fleet import COALESCE_S
from tests.router.e2e.metrics import Metrics, parse_metrics
from tests.router.e2e.processes import Nursery, Program, until
from tests.router.e2e.workers import FakeWorker

Config: TypeAlias = dict[str, Any]
Workers: TypeAlias = Sequence[FakeWorker | str]

_SERVES = re.compile(r"Routing to .* on https?://127\.0\.0\.1:(\d+)/v1")
_ADMIN = re.compile(r"Admin API on http://127\.0\.0\.1:(\d+):")


class Router:
    """A router process with its data-plane processes."""

    def __init__(
        self,
        nursery: Nursery,
        workers: Workers = (),
        config: Config | None = None,
        *options: str,
        port: int = 0,
        admin_port: int = 0,
        processes: int = 1,
    ) -> None:
        number = len(list(nursery.folder.glob("router-*.yaml")))
        self.file = nursery.folder / f"router-{number}.yaml"
        self.access_log = nursery.folder / f"access-{number}.jsonl"
        self.usage_log = nursery.folder / f"usage-{number}.jsonl"
        self._base: Config = {
            "listen": {"port": port, "processes": processes},
            "admin": {"port": admin_port},
            "routing": {"slow_start_s": 0},
            "telemetry": {
                "access_log": str(self.access_log), "usage_log": str(self.usage_log)
            },
        }  # fmt: skip
        self.write(self.settings(workers, config))
        self.program: Program = nursery.start("route", "--config", str(self.file), *options)
        self.port = self._told(_SERVES)
        self.admin_port = self._told(_ADMIN)
        self.url = f"http://127.0.0.1:{self.port}"
        self.admin = httpx.Client(
            base_url=f"http://127.0.0.1:{self.admin_port}",
            timeout=60,
            trust_env=False,
            verify=False,
        )

    def settings(self, workers: Workers = (), config: Config | None = None) -> Config:
        """`config` over what all tests want; the workers are its static list."""
        urls = [worker if isinstance(worker, str) else worker.url for worker in workers]
        merged: Config = {**self._base, "discovery": {"static": [{"url": url} for url in urls]}}
        for topic, settings in (config or {}).items():
            before = merged.get(topic)
            merged[topic] = {**before, **settings} if isinstance(before, dict) else settings
        return merged

    def write(self, settings: Config) -> None:
        """The file's new content: JSON is YAML. It is watched, so it is never seen half."""
        new = self.file.with_suffix(".new")
        new.write_bytes(msgspec.json.format(msgspec.json.encode(settings)))
        new.replace(self.file)

    def configure(self, workers: Workers = (), config: Config | None = None) -> Router:
        """Other settings, by a reload; returns when it has these workers and no others."""
        settings = self.settings(workers, config)
        self.write(settings)
        answer = self.admin.post("/admin/reload")
        assert answer.status_code == 200, answer.text
        wanted = {worker["url"]: "ready" for worker in settings["discovery"]["static"]}
        # Those that were taken out are listed as draining for a second.
        until(lambda: self.statuses(but="draining") == wanted, f"{wanted} alone to be ready")
        self.wait_told()
        return self

    def wait_blocks(self, *, num_workers: int = 1) -> None:
        """Until it knows blocks in the prefix caches of so many workers, hears of no more, and has
        told the others."""

        def known() -> dict[str, int]:
            events = {name: e["kv_events"] for name, e in self.endpoints().items()}
            return {name: told["num_blocks"] for name, told in events.items() if told}

        until(lambda: sum(map(bool, known().values())) >= num_workers, "events of workers")
        counts: list[dict[str, int]] = []
        while len(counts) < 5 or any(count != counts[-1] for count in counts[-5:]):
            counts.append(known())
            time.sleep(0.05)
        self.wait_told()

    def wait_told(self) -> None:
        """What the state process knows it tells the others a moment later."""
        time.sleep(2 * COALESCE_S)
        self.process_ids()  # asked after that, and answered in order

    def _told(self, pattern: re.Pattern[str]) -> int:
        def look() -> re.Match[str] | None:
            found = pattern.search(self.program.said())
            assert found or not self.program.has_ended, self.program.said()
            return found

        return int(until(look, "a router that says where it serves")[1])

    def metrics(self) -> Metrics:
        return parse_metrics(self.admin.get("/metrics").text)

    def endpoints(self) -> dict[str, dict[str, Any]]:
        """By id."""
        found = self.admin.get("/admin/endpoints").json()["endpoints"]
        return {endpoint["endpoint_id"]: endpoint for endpoint in found}

    def statuses(self, *, but: str = "") -> dict[str, str]:
        """Of all endpoints but those in that status."""
        statuses = {name: endpoint["status"] for name, endpoint in self.endpoints().items()}
        return {name: status for name, status in statuses.items() if status != but}

    def wait_status(self, worker: FakeWorker, status: str) -> None:
        until(lambda: self.statuses().get(worker.url) == status, f"{worker.url} to become {status}")
        self.wait_told()

    def decisions(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest first."""
        found = self.admin.get("/debug/decisions", params={"limit": limit})
        decisions: list[dict[str, Any]] = found.json()["decisions"]
        return decisions

    def add(self, worker: FakeWorker | str, **settings: Any) -> None:
        url = worker if isinstance(worker, str) else worker.url
        self.admin.post("/admin/endpoints", json={"url": url, **settings}).raise_for_status()

    def remove(self, worker: FakeWorker) -> None:
        self.admin.delete(f"/admin/endpoints/{worker.url}").raise_for_status()

    def drain(self, worker: FakeWorker) -> None:
        self.admin.post(f"/admin/endpoints/{worker.url}/drain").raise_for_status()
        self.wait_told()

    def undrain(self, worker: FakeWorker) -> None:
        self.admin.post(f"/admin/endpoints/{worker.url}/undrain").raise_for_status()

    def process_ids(self) -> dict[int, int]:
        """Of the data-plane processes, by their number."""
        processes = self.admin.get("/debug/connections").json()["processes"]
        return {process["process"]: process["pid"] for process in processes}

    def kill_process(self, number: int) -> None:
        """kill -9 of a data-plane process."""
        os.kill(self.process_ids()[number], signal.SIGKILL)

    def logged(self, request_id: str, log: Path | None = None) -> dict[str, Any]:
        """The line about a request in the access log, or in another one, once it is there."""
        file = log or self.access_log

        def look() -> dict[str, Any] | None:
            lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
            entries = [json.loads(line) for line in lines if f'"{request_id}"' in line]
            assert len(entries) <= 1, entries
            return entries[0] if entries else None

        return until(look, f"{request_id} in {file}")

    def close(self) -> None:
        self.admin.close()
        self.program.close()
