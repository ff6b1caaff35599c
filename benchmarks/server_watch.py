"""Watches the server during a run: its `/metrics`, and the CPU and memory of its processes."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
import psutil

from shoal.benchmarks.result import Series, ServerWatch
from shoal.errors import ConfigError
from shoal.metrics import parse_prometheus_text

from .direct_http import direct

SCRAPE_TIMEOUT_S = 2.0
PREFIXES = ("vllm:", "shoal:", "shoal_", "sglang:", "llamacpp:", "process_")
GAUGES = {
    "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
    "sglang:num_running_reqs", "sglang:num_queue_reqs", "sglang:token_usage",
    "llamacpp:requests_processing", "llamacpp:requests_deferred", "llamacpp:kv_cache_usage_ratio",
}  # fmt: skip
"""Kept over time; summed over label sets (adapters, data-parallel ranks)."""


@dataclass(slots=True)
class ProcessTree:
    """CPU and memory of a process with its children, by `--pid`."""

    root: psutil.Process
    _last_cpu_s: dict[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, pid: int) -> ProcessTree:
        """Raises ConfigError when there is no such process."""
        try:
            tree = cls(psutil.Process(pid))
            tree.sample()
        except psutil.Error as error:
            raise ConfigError(f"--pid {pid}: {error}; give the server's process id") from None
        return tree

    def sample(self) -> tuple[float, int]:
        """CPU seconds used since the last sample, and resident bytes now.

        A child that started since counts from zero, one that ended keeps what was seen of it.
        """
        used_s, rss = 0.0, 0
        seen: dict[int, float] = {}
        for process in (self.root, *self._children()):
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    rss += process.memory_info().rss
            except psutil.Error:
                continue  # ended meanwhile
            seen[process.pid] = times.user + times.system
            used_s += seen[process.pid] - self._last_cpu_s.get(process.pid, 0.0)
        self._last_cpu_s = seen
        return used_s, rss

    def _children(self) -> list[psutil.Process]:
        try:
            return self.root.children(recursive=True)
        except psutil.Error:
            return []


class Watcher:
    """Samples at a steady pace between `start` and `stop`; never fails a run."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        pid: int | None = None,
        every_s: float = 0.5,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = dict(headers or {})
        self._tree = None if pid is None else ProcessTree.of(pid)
        self._every_s = every_s
        self._gauges: dict[str, Series] = defaultdict(Series)
        self._first: dict[str, float] | None = None
        self._last: dict[str, float] = {}
        self._has_metrics = True
        self._problem: str | None = None
        self._cpu_s = 0.0
        self._cores, self._rss = Series(), Series()
        self._origin = 0.0
        self._task: asyncio.Task[None] | None = None

    async def baseline(self) -> None:
        """What counters grow from; before a load begins, under which a sample may come late."""
        async with self._client() as http:
            await self._scrape(http, 0.0)
        self._gauges.clear()

    def start(self, origin: float) -> None:
        """Times count from `origin`, on perf_counter; the first sample is taken now, before it."""
        self._origin = origin
        if self._tree is not None:
            self._tree.sample()  # CPU counts from here
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> ServerWatch:
        """One last sample, and everything seen; nothing, if it never started."""
        if self._task is None:
            return ServerWatch()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        async with self._client() as http:
            await self._sample(http)
            version = await self._version(http)
        first = self._first or {}
        return ServerWatch(
            version=version,
            gauges=dict(self._gauges),
            counters={
                name: growth
                for name, value in self._last.items()
                if (growth := value - first.get(name, 0.0)) != 0
            },
            cpu_s=None if self._tree is None else self._cpu_s,
            cpu_cores=None if self._tree is None else self._cores,
            rss_bytes=None if self._tree is None else self._rss,
            problem=None if self._first is not None else self._problem,
        )

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(timeout=SCRAPE_TIMEOUT_S, headers=self._headers, **direct())

    async def _watch(self) -> None:
        async with self._client() as http:
            due = self._origin
            while True:
                await self._sample(http)
                due = max(due + self._every_s, time.perf_counter())
                await asyncio.sleep(due - time.perf_counter())

    async def _sample(self, http: httpx.AsyncClient) -> None:
        now_s = max(0.0, time.perf_counter() - self._origin)
        if self._tree is not None:
            used_s, rss = self._tree.sample()
            self._cpu_s += used_s
            before_s = self._cores.t_s[-1] if self._cores.t_s else 0.0
            if now_s - before_s > 0.01:
                _append(self._cores, now_s, used_s / (now_s - before_s))
                _append(self._rss, now_s, float(rss))
        if self._has_metrics:
            await self._scrape(http, now_s)

    async def _scrape(self, http: httpx.AsyncClient, now_s: float) -> None:
        """A server that says it has no metrics is asked once; a silent one, again and again."""
        try:
            response = await http.get(f"{self._url}/metrics")
            if response.status_code != 200:
                self._has_metrics = self._first is not None
                raise ValueError(f"answers {response.status_code}")
            counters: dict[str, float] = defaultdict(float)
            gauges: dict[str, float] = defaultdict(float)
            for sample in parse_prometheus_text(response.text):
                if sample.name in GAUGES:
                    gauges[sample.name] += sample.value
                elif sample.name.endswith("_total") and sample.name.startswith(PREFIXES):
                    counters[sample.name] += sample.value
        except (httpx.HTTPError, ValueError) as error:
            self._problem = f"{self._url}/metrics: {error or type(error).__name__}"
            return
        if self._first is None:
            self._first = dict(counters)
        self._last = dict(counters)
        for name, value in gauges.items():
            _append(self._gauges[name], now_s, value)

    async def _version(self, http: httpx.AsyncClient) -> str | None:
        """What vLLM and Shoal say at /version; None from a server that has no such route."""
        try:
            answer = (await http.get(f"{self._url}/version")).json()
        except (httpx.HTTPError, ValueError):
            return None
        version = answer.get("version") if isinstance(answer, dict) else None
        return version if isinstance(version, str) else None


def _append(series: Series, t_s: float, value: float) -> None:
    series.t_s.append(t_s)
    series.values.append(value)
