"""One load test from preflight to result: `run_load` is the harness as a library."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from shoal.benchmarks.client.fleet import Fleet, Progress
from shoal.benchmarks.client.messages import ClientPlan, Load
from shoal.benchmarks.environment import environment
from shoal.benchmarks.measure.record import RequestRecord
from shoal.benchmarks.measure.summary import Figures, intervals, request_table, summarize
from shoal.benchmarks.measure.timeline import timeline
from shoal.benchmarks.result import ClientLoad, RunResult, ServerWatch
from shoal.benchmarks.server_watch import Watcher
from shoal.benchmarks.settings import LoadTest
from shoal.benchmarks.workload.spec import WorkloadSpec
from shoal.benchmarks.workload.tokens import TokenPool
from shoal.errors import ShoalError

from .preflight import Preflight, ServerUnusable
from .verdicts import warnings_about

OnProgress = Callable[[int, Progress], None]
"""Called with the number of the repeat and what is known so far, some times a second."""

WARMUP_SEED = 900_001
WARMUP_TIMEOUT_S = 120.0


@dataclass(slots=True)
class Measured:
    """One repeat: its records and what was seen beside them."""

    records: list[RequestRecord]
    duration_s: float
    num_processes: int
    cpu_s: list[float] = field(default_factory=list)
    server: ServerWatch | None = None
    interrupted: bool = False
    problem: str | None = None
    """Why it ended early, if it was not interrupted."""


async def run_load(test: LoadTest, on_progress: OnProgress | None = None) -> RunResult:
    """Run a load test and return its result.

    Cancelling the task ends the run early: the result then holds what was measured until that
    moment, with `interrupted` set. Raises ServerUnusable when the server cannot be measured at
    all, ConfigError for settings that make no sense, ClientFailed when the load generator breaks
    before anything was measured; after that the result has a `problem`.
    """
    test, pool = await prepare(test)
    repeats: list[Measured] = []
    for number in range(test.repeats):
        measured = await measure(test, pool, repeat=number, on_progress=on_progress)
        repeats.append(measured)
        if measured.interrupted:
            break
    return result_of(test, repeats)


async def prepare(test: LoadTest) -> tuple[LoadTest, TokenPool]:
    """Check the server, fill in its model when none is named, learn how it counts, warm it up.

    Raises ServerUnusable when any of it fails.
    """

    def ask() -> tuple[LoadTest, TokenPool]:
        with Preflight(test.url, test.headers) as preflight:
            model = preflight.choose_model(test.form.model or None)
            form = msgspec.structs.replace(test.form, model=model)
            return msgspec.structs.replace(test, form=form), preflight.token_pool(model)

    ready, pool = await asyncio.to_thread(ask)
    await warm_up(ready, pool)
    return ready, pool


async def warm_up(test: LoadTest, pool: TokenPool) -> None:
    """Send `warmup` requests one after the other. Raises ServerUnusable when one fails.

    They are short prompts of their own seed, so no measured prompt finds a prefix in the cache.
    """
    if test.warmup == 0:
        return
    plan = msgspec.structs.replace(
        test.plan(pool),
        workload=WorkloadSpec(seed=WARMUP_SEED, input_len="16", output_len="8"),
        load=Load(concurrency=1, num_sessions=test.warmup),
        timeout_s=min(test.timeout_s, WARMUP_TIMEOUT_S),
    )
    progress = await Fleet(plan, 1).run()
    for record in progress.records:
        if record.error is not None:
            raise ServerUnusable(
                f"a first request to {test.url} failed ({record.error}): {record.detail}"
            )


async def measure(
    test: LoadTest, pool: TokenPool, *, repeat: int, on_progress: OnProgress | None = None
) -> Measured:
    """One repeat. Cancelled, it returns what was measured so far, marked as interrupted; so it does
    when the load generator breaks under way."""
    plan: ClientPlan = test.plan(pool, repeat=repeat)
    fleet = Fleet(plan, test.processes())
    watcher = Watcher(test.url, headers=test.headers, pid=test.pid)
    interrupted, problem = False, None
    try:
        await watcher.baseline()
        await fleet.run(
            lambda progress: on_progress and on_progress(repeat, progress),
            on_start=watcher.start,
        )
    except asyncio.CancelledError:
        interrupted = True
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()  # the cancellation is honoured by returning what there is
    except ShoalError as error:
        if not fleet.progress.records:
            raise
        interrupted, problem = True, str(error)
    finally:
        server = await watcher.stop()
    progress = fleet.progress
    ends = [record.end_s for record in progress.records if record.end_s is not None]
    return Measured(
        records=progress.records,
        duration_s=max(ends, default=0.0),
        num_processes=test.processes(),
        cpu_s=progress.cpu_s,
        server=server,
        interrupted=interrupted,
        problem=problem,
    )


def result_of(test: LoadTest, repeats: Sequence[Measured]) -> RunResult:
    """Pool the repeats: figures over all requests, intervals over repeats.

    The timeline and the server's series are those of the first repeat.
    """
    records = [record for measured in repeats for record in measured.records]
    duration_s = sum(measured.duration_s for measured in repeats)
    figures = summarize(records, duration_s, test.slo)
    first = repeats[0]
    client = ClientLoad(
        processes=first.num_processes,
        cpu_cores=[
            cpu_s / measured.duration_s
            for measured in repeats
            for cpu_s in measured.cpu_s
            if measured.duration_s > 0
        ],
        send_delay_p99_s=figures.send_delay_s.p99,
    )
    each = [summarize(m.records, m.duration_s, test.slo) for m in repeats]
    return RunResult(
        name=test.name or test.form.model,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment={**environment(), "cores": os.cpu_count()},
        config=test.described(),
        interrupted=any(measured.interrupted for measured in repeats),
        problem=next((measured.problem for measured in repeats if measured.problem), None),
        duration_s=duration_s,
        offered_requests_per_s=_offered(test, first),
        client=client,
        server=first.server,
        timeline=timeline(first.records, first.duration_s) if first.records else None,
        intervals=intervals(each) if len(each) > 1 else {},
        requests=request_table(records) if test.save_requests else None,
        warnings=warnings_about(test, records, figures, client),
        **_fields(figures),
    )


def _offered(test: LoadTest, run: Measured) -> float | None:
    """Requests per second that were meant to be sent; None in a closed loop: it offers nothing.

    Over the time in which any could have been due: all of `--duration`, unless the run ended
    earlier or had no more to send.
    """
    load, records = test.load, run.records
    if load.concurrency is not None or not records:
        return None
    last_s = max(record.intended_s for record in records)
    planned_s = last_s if load.duration_s is None else load.duration_s
    if run.interrupted:
        planned_s = min(planned_s, run.duration_s)
    elif load.num_sessions is not None and _num_sessions(records) >= load.num_sessions:
        planned_s = last_s
    return len(records) / max(planned_s, last_s, 1e-9)


def _num_sessions(records: Sequence[RequestRecord]) -> int:
    return len({record.session for record in records})


def _fields(figures: Figures) -> dict[str, Any]:
    return {name: getattr(figures, name) for name in figures.__dataclass_fields__}
