"""The parent's side: starts the measuring processes, gathers their records, stops them."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from shoal.benchmarks.measure.record import RequestRecord
from shoal.errors import ConfigError, ShoalError

from .messages import Batch, ClientPlan, Finished, FromClient, Ready, Start, frame, read_frame

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
START_AFTER_S = 0.1
"""All processes begin at one moment, soon enough after the last is ready."""


class ClientFailed(ShoalError):
    """A measuring process could not do its work."""


@dataclass(slots=True)
class Progress:
    """What is known while a run goes on."""

    started: float = 0.0
    """perf_counter at the start of the run; 0 before it."""
    records: list[RequestRecord] = field(default_factory=list)
    in_flight: int = 0
    num_sent: int = 0
    num_tokens: int = 0
    cpu_s: list[float] = field(default_factory=list)
    """By process, since the start."""

    @property
    def elapsed_s(self) -> float:
        return max(0.0, time.perf_counter() - self.started) if self.started else 0.0


OnProgress = Callable[[Progress], None]
OnStart = Callable[[float], None]
"""Called with the moment, on perf_counter, at which all processes will begin."""


class Fleet:
    """Runs one plan over `num_processes` processes; use once."""

    def __init__(self, plan: ClientPlan, num_processes: int) -> None:
        self._plan = plan
        self._num_processes = num_processes
        self.progress = Progress()
        self._latest: list[Batch | None] = [None] * num_processes
        self._processes: list[asyncio.subprocess.Process] = []

    async def run(
        self, on_progress: OnProgress | None = None, *, on_start: OnStart | None = None
    ) -> Progress:
        """Everything measured. Raises ClientFailed or ConfigError when a process says so.

        Cancelled, it stops the processes and raises CancelledError; `progress` then holds what
        was measured, requests under way included (as cancelled).
        """
        try:
            for share in range(self._num_processes):
                self._processes.append(await self._start(share))
            async with asyncio.timeout(READY_TIMEOUT_S):
                for process in self._processes:
                    await self._expect_ready(process)
            at = time.perf_counter() + START_AFTER_S
            self.progress.started = at
            if on_start is not None:
                on_start(at)
            for process in self._processes:
                _write(process, Start(at))
            readers = [
                asyncio.create_task(self._read(share, process, on_progress))
                for share, process in enumerate(self._processes)
            ]
            try:
                await asyncio.gather(*readers)
            except asyncio.CancelledError:
                # gather cancelled the readers; new ones take what the processes still say.
                await self._drain(on_progress)
                raise
        except TimeoutError:
            raise ClientFailed(
                f"the load generator was not ready within {READY_TIMEOUT_S:.0f} s"
            ) from None
        finally:
            await self._stop()
        return self.progress

    async def _start(self, share: int) -> asyncio.subprocess.Process:
        plan = msgspec.structs.replace(self._plan, share=share, num_shares=self._num_processes)
        process = await asyncio.create_subprocess_exec(
            # -P: a `random.py` in the folder where somebody works is none of our modules.
            sys.executable, "-P", "-m", f"{__package__}.process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 22,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which stops them in order
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        _write(process, plan)
        return process

    async def _expect_ready(self, process: asyncio.subprocess.Process) -> None:
        message = await _receive(process)
        if not isinstance(message, Ready):
            self._raise_problem(message)

    async def _read(
        self, share: int, process: asyncio.subprocess.Process, on_progress: OnProgress | None
    ) -> None:
        while True:
            message = await _receive(process)
            if isinstance(message, Batch):
                self._take(share, message)
                if on_progress is not None:
                    on_progress(self.progress)
            elif isinstance(message, Finished) and message.problem is None:
                return
            else:
                self._raise_problem(message)

    def _take(self, share: int, batch: Batch) -> None:
        self._latest[share] = batch
        known = [latest for latest in self._latest if latest is not None]
        progress = self.progress
        progress.records += batch.records
        progress.in_flight = sum(latest.in_flight for latest in known)
        progress.num_sent = sum(latest.num_sent for latest in known)
        progress.num_tokens = sum(latest.num_tokens for latest in known)
        progress.cpu_s = [latest.cpu_s for latest in known]

    async def _drain(self, on_progress: OnProgress | None) -> None:
        """Ask for the end, and read the last records."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        readers = (self._read(share, p, on_progress) for share, p in enumerate(self._processes))
        await asyncio.wait_for(
            asyncio.gather(*readers, return_exceptions=True), timeout=STOP_TIMEOUT_S
        )

    def _raise_problem(self, message: FromClient | None) -> None:
        if isinstance(message, Finished) and message.problem is not None:
            if message.is_config_error:
                raise ConfigError(message.problem)
            raise ClientFailed(f"the load generator failed: {message.problem}")
        raise ClientFailed("the load generator ended without a word")

    async def _stop(self) -> None:
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        for process in self._processes:
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()


def _write(process: asyncio.subprocess.Process, message: ClientPlan | Start) -> None:
    assert process.stdin is not None
    process.stdin.write(frame(message))


async def _receive(process: asyncio.subprocess.Process) -> FromClient | None:
    assert process.stdout is not None
    content = await read_frame(process.stdout)
    return None if content is None else msgspec.msgpack.decode(content, type=FromClient)
