"""Finds the highest rate whose goodput stays above a target: a pure search, and its runner.

The search doubles (or halves) the rate until a passing and a failing rate are known, then narrows
the bracket by geometric bisection. Attainment falls as load grows, up to noise; a rate that passed
is never doubted again, so the search ends after a bounded number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from shoal.benchmarks.client.fleet import Progress
from shoal.benchmarks.client.messages import Load
from shoal.benchmarks.result import RunResult, Sweep, SweepStep
from shoal.benchmarks.settings import LoadTest
from shoal.benchmarks.workload.arrivals import ArrivalSpec
from shoal.errors import ConfigError

from .run import measure, prepare, result_of

LEAST_REQUESTS = 10
"""Of a step, on average: with fewer, chance decides. Low rates get the time that this takes."""
MAX_SILENT_STEPS = 2
"""Steps one after the other without one complete answer, after which lower rates are no help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """How to search."""

    start_rate: float = 1.0
    target: float = 0.95
    """Least attainment, in [0, 1]."""
    resolution: float = 0.1
    """Stop when the failing rate is within this share above the passing one."""
    min_rate: float = 1 / 64
    max_rate: float = 4096.0
    max_steps: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.target <= 1:
            raise ConfigError(f"a goodput target of {self.target:g}: it must be in (0, 1]")
        if not 0.005 <= self.resolution <= 1:
            raise ConfigError(f"a resolution of {self.resolution:g}: it must be in [0.005, 1]")
        if not self.min_rate <= self.start_rate <= self.max_rate:
            raise ConfigError(
                f"a first rate of {self.start_rate:g}: it must be from {self.min_rate:g} to"
                f" {self.max_rate:g} requests per second"
            )


def next_rate(plan: SweepPlan, tried: Sequence[tuple[float, bool]]) -> float | None:
    """The next rate to try, or None when the search is over; `tried` holds (rate, passed).

    1 passes, 2 passes, 4 fails -> 2.83, and so on until the bracket is within the resolution.
    """
    if not tried:
        return plan.start_rate
    if len(tried) >= plan.max_steps:
        return None
    low = max((rate for rate, passed in tried if passed), default=None)
    high = min((r for r, passed in tried if not passed and (low is None or r > low)), default=None)
    if high is None:  # everything passed
        assert low is not None
        return None if low >= plan.max_rate else min(2 * low, plan.max_rate)
    if low is None:  # everything failed
        return None if high <= plan.min_rate else max(high / 2, plan.min_rate)
    if high <= low * (1 + plan.resolution):
        return None
    return math.sqrt(low * high)


def best_rate(tried: Sequence[tuple[float, bool]]) -> float | None:
    """The highest rate that passed."""
    return max((rate for rate, passed in tried if passed), default=None)


OnStep = Callable[[float, Progress], None]


async def run_sweep(
    test: LoadTest, plan: SweepPlan, on_progress: OnStep | None = None
) -> RunResult:
    """Search, and return the run at the best rate (the lowest one, if all failed) with the curve.

    `test.load.arrivals` gives process and shape; its rate is replaced. A cancelled search returns
    what it has; cancelled in its first step, that run without a curve.
    """
    if test.slo is None:
        raise ConfigError("a sweep needs objectives: --slo ttft:200ms,tpot:50ms")
    if test.repeats > 1:
        raise ConfigError("a sweep runs every rate once: repeat the run at the rate that it finds")
    test, pool = await prepare(test)
    tried: list[tuple[float, bool]] = []
    steps: list[SweepStep] = []
    results: dict[float, RunResult] = {}
    interrupted, num_silent, problem = False, 0, None
    while num_silent < MAX_SILENT_STEPS and (rate := next_rate(plan, tried)) is not None:
        step_test = at_rate(test, rate, seed=test.workload.seed + len(tried))
        measured = await measure(
            step_test,
            pool,
            repeat=0,
            on_progress=_bound(on_progress, rate),
        )
        interrupted, problem = measured.interrupted, measured.problem
        if interrupted and results:
            break  # half a step says nothing about its rate
        result = result_of(step_test, [measured])
        if interrupted:
            return result
        results[rate] = result
        num_silent = 0 if result.num_succeeded else num_silent + 1
        step = _step(rate, result, plan.target)
        steps.append(step)
        tried.append((rate, step.passed))
    best = best_rate(tried)
    result = results[min(results) if best is None else best]
    result.interrupted = interrupted
    result.problem = problem
    result.sweep = Sweep(target=plan.target, best_rate=best, steps=steps)
    if best is None:
        result.warnings.append("no rate met the target: these are the figures of the lowest one")
    return result


def at_rate(test: LoadTest, rate: float, *, seed: int) -> LoadTest:
    """The test with another rate and seed, one repeat, and time for LEAST_REQUESTS."""
    arrivals = test.load.arrivals or ArrivalSpec(rate=rate)
    duration_s = test.load.duration_s
    load: Load = msgspec.structs.replace(
        test.load,
        arrivals=msgspec.structs.replace(arrivals, rate=rate),
        concurrency=None,
        duration_s=None if duration_s is None else max(duration_s, LEAST_REQUESTS / rate),
    )
    workload = msgspec.structs.replace(test.workload, seed=seed)
    return msgspec.structs.replace(test, load=load, workload=workload, repeats=1)


def _bound(on_progress: OnStep | None, rate: float) -> Callable[[int, Progress], None] | None:
    if on_progress is None:
        return None
    return lambda _repeat, progress: on_progress(rate, progress)


def _step(rate: float, result: RunResult, target: float) -> SweepStep:
    attainment = result.goodput.attainment if result.goodput is not None else 0.0
    return SweepStep(
        rate=rate,
        attainment=attainment,
        passed=attainment >= target and result.num_requests > 0,
        requests_per_s=result.requests_per_s,
        output_tokens_per_s=result.output_tokens_per_s,
        ttft_p50_s=result.ttft_s.p50,
        ttft_p99_s=result.ttft_s.p99,
        tpot_p50_s=result.tpot_s.p50,
        tpot_p99_s=result.tpot_s.p99,
        num_requests=result.num_requests,
    )
