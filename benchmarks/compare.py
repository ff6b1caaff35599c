"""Two servers in turns: pairs of neighbouring runs, and the ratio of each pair.

A shared machine changes its speed by the minute. Runs made side by side see nearly the same
machine, so the ratio within a pair keeps what differs between the servers and loses what differs
between the minutes. The order alternates (A B, B A, ...) so that neither is always the second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import msgspec

from shoal.benchmarks.client.fleet import Progress
from shoal.benchmarks.environment import environment
from shoal.benchmarks.measure.statistics import ratio
from shoal.benchmarks.measure.summary import headline, summarize
from shoal.benchmarks.result import CompareResult, Ratio
from shoal.benchmarks.settings import LoadTest

from .run import Measured, measure, prepare, result_of

OnPair = Callable[[int, str, Progress], None]

NOTHING = Measured(records=[], duration_s=0.0, num_processes=0)
"""Stands for the side whose turn had not come."""


def turns(num_pairs: int) -> Iterator[tuple[int, str]]:
    """(pair, side) in the order of the runs: A B, B A, A B, ..."""
    for pair in range(num_pairs):
        for side in "ab" if pair % 2 == 0 else "ba":
            yield pair, side


async def run_compare(
    a: LoadTest, b: LoadTest, *, num_pairs: int, on_progress: OnPair | None = None
) -> CompareResult:
    """Measure `num_pairs` pairs. Both sides of a pair get the same arrivals and prompts.

    A cancelled comparison returns the pairs that are complete; without any, what was measured of
    the first, and no ratio. CancelledError is raised when that is nothing.
    """
    tests = {"a": a, "b": b}
    pools = {}
    for side, test in list(tests.items()):
        tests[side], pools[side] = await prepare(test)
    runs: dict[str, list[Measured]] = {"a": [], "b": []}
    interrupted = False
    for pair, side in turns(num_pairs):

        def report(_repeat: int, progress: Progress, pair: int = pair, side: str = side) -> None:
            if on_progress is not None:
                on_progress(pair, side, progress)

        measured = await measure(tests[side], pools[side], repeat=pair, on_progress=report)
        interrupted = measured.interrupted
        if interrupted and pair > 0:
            break  # half a pair has no ratio
        runs[side].append(measured)
        if interrupted:
            break
    if not any(measured.records for of_side in runs.values() for measured in of_side):
        raise asyncio.CancelledError
    complete = min(len(runs["a"]), len(runs["b"]))
    if any(measured.interrupted for of_side in runs.values() for measured in of_side):
        complete = 0  # it was the first pair
    shown = {side: runs[side][: max(complete, 1)] or [NOTHING] for side in runs}
    sides = {
        side: result_of(
            msgspec.structs.replace(test, name=test.name or f"{side.upper()} {test.form.model}"),
            shown[side],
        )
        for side, test in tests.items()
    }
    sides[side].problem = measured.problem  # of the last run: nothing comes after one
    ratios = _ratios(a, b, runs, complete)
    return CompareResult(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment(),
        config={"num_pairs": complete, **{side: test.described() for side, test in tests.items()}},
        interrupted=interrupted,
        a=sides["a"],
        b=sides["b"],
        ratios=ratios,
        warnings=list(_warnings(tests["a"], tests["b"], complete)),
    )


def _warnings(a: LoadTest, b: LoadTest, num_pairs: int) -> Iterator[str]:
    if num_pairs == 0:
        yield "not one pair is complete: there is nothing to compare"
    elif num_pairs == 1:
        yield "one pair says nothing about chance: use --pairs 5"
    if (a.url, a.form.model) == (b.url, b.form.model):
        yield (
            "A and B are one server: the second run of a pair finds the prompts of the first in the"
            " prefix cache, if the server has one"
        )


def _ratios(
    a: LoadTest, b: LoadTest, runs: dict[str, list[Measured]], complete: int
) -> dict[str, Ratio]:
    """A over B of every headline figure that both sides of a pair have."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for of_a, of_b in zip(runs["a"][:complete], runs["b"][:complete], strict=True):
        figures_a = headline(summarize(of_a.records, of_a.duration_s, a.slo))
        figures_b = headline(summarize(of_b.records, of_b.duration_s, b.slo))
        for name, figure in figures_a.items():
            if name in figures_b:
                pairs.setdefault(name, []).append((figure, figures_b[name]))
    return {name: found for name, both in pairs.items() if (found := ratio(both)) is not None}
