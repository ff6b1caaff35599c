"""A measuring process: plan in, records out. Run by the fleet as `python -m ...client.process`.

It does nothing but send and record; progress, scraping and reports are the parent's, so that they
cannot delay a measurement.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import resource
import sys
import time
from typing import Any

import msgspec
import uvloop

from shoal.benchmarks.workload.spec import build_workload
from shoal.errors import ConfigError, ShoalError

from .ahead import Ahead
from .dispatch import check_ends, closed_loop, open_loop, session_times, share_of_sessions
from .http import HTTPClient
from .messages import Batch, ClientPlan, Finished, FromClient, Ready, Start, frame, read_frame
from .sender import Sender

REPORT_EVERY_S = 0.25


class ParentPipes:
    """Frames to and from the parent, without blocking the loop."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.WriteTransport) -> None:
        self.reader = reader
        self._transport = transport

    @classmethod
    async def open(cls) -> ParentPipes:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        transport, _ = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(os.dup(1), "wb", buffering=0)
        )
        return cls(reader, transport)

    def send(self, message: FromClient) -> None:
        """Write without waiting; nobody is told anything once the parent is gone."""
        if not self._transport.is_closing():
            self._transport.write(frame(message))

    async def receive(self, kind: type[Any]) -> Any:
        """The next message, of type `kind`. Raises EOFError when the parent is gone."""
        content = await read_frame(self.reader)
        if content is None:
            raise EOFError
        return msgspec.msgpack.decode(content, type=kind)

    async def cancel_at_end(self, task: asyncio.Task[Any] | None) -> None:
        """Cancel `task` when the parent closes its end: it wants to stop, or it died."""
        while await read_frame(self.reader) is not None:
            pass  # nothing is sent after the start
        if task is not None:
            task.cancel()

    async def flush(self) -> None:
        """Wait until the parent has read everything."""
        while self._transport.get_write_buffer_size():  # noqa: ASYNC110 (a pipe has no event for it)
            await asyncio.sleep(0.005)


async def measure(plan: ClientPlan, pipes: ParentPipes) -> None:
    """Run the plan's share and report until it is done or the parent closes its end."""
    workload = build_workload(plan.workload, plan.pool)
    check_ends(plan.load, workload)
    client = HTTPClient(plan.url, plan.headers)
    sender = Sender(client, plan.form, timeout_s=plan.timeout_s)
    load = plan.load
    share = {"share": plan.share, "num_shares": plan.num_shares}
    ahead: Ahead | None = None
    if load.concurrency is None:
        ahead = Ahead(workload, session_times(load, workload, seed=plan.workload.seed, **share))
        while ahead.write():
            pass
    gc.collect()
    gc.freeze()  # what lives for the whole run need not be looked at by each collection
    pipes.send(Ready())
    start: Start = await pipes.receive(Start)
    sender.origin = start.at
    cpu_before_s = time.process_time()

    def report() -> None:
        pipes.send(
            Batch(
                records=sender.take_records(),
                in_flight=sender.in_flight,
                num_sent=sender.num_sent,
                num_tokens=sender.num_tokens,
                cpu_s=time.process_time() - cpu_before_s,
            )
        )

    async def report_regularly() -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            report()

    await asyncio.sleep(max(0.0, start.at - time.perf_counter()))
    beside = [
        asyncio.create_task(report_regularly()),
        asyncio.create_task(pipes.cancel_at_end(asyncio.current_task())),
    ]
    try:
        if load.concurrency is not None:
            own_slots = len(range(plan.share, load.concurrency, plan.num_shares))
            indices = share_of_sessions(load, workload, **share)
            until_s = math.inf if load.duration_s is None else load.duration_s
            await closed_loop(sender, workload, indices, slots=own_slots, until_s=until_s)
        elif ahead is not None:
            await open_loop(sender, ahead)
    finally:
        for task in beside:
            task.cancel()
        client.close()
        report()


async def main() -> None:
    pipes = await ParentPipes.open()
    problem: Exception | None = None
    try:
        plan: ClientPlan = await pipes.receive(ClientPlan)
        # An interrupted run is no problem: what was measured has been reported.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.create_task(measure(plan, pipes))
    except EOFError:
        return
    except ExceptionGroup as group:
        problem = group.exceptions[0]
    except Exception as error:
        problem = error
    pipes.send(
        Finished(
            problem=None if problem is None else _describe(problem),
            is_config_error=isinstance(problem, ConfigError),
        )
    )
    await pipes.flush()


def _describe(problem: Exception) -> str:
    return str(problem) if isinstance(problem, ShoalError) else repr(problem)


def raise_file_limit() -> None:
    """As many sockets as the system lets a process have: one a stream."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    raise_file_limit()
    uvloop.run(main())
