"""Records of one run, or of several repeats of it, to the figures of a result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from shoal.benchmarks.result import Distribution, Goodput, Interval, RequestTable

from .record import RequestRecord
from .slo import meets
from .statistics import distribution, interval

CANCELLED = "cancelled"
"""Error kind of requests that were under way when the run was interrupted; not held against the
server: they are left out of every figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the records say; field names are those of `RunResult`."""

    num_requests: int
    num_succeeded: int
    errors: dict[str, int]
    error_examples: dict[str, str]
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None
    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    ttft_s: Distribution
    itl_s: Distribution
    tpot_s: Distribution
    e2e_s: Distribution
    send_delay_s: Distribution
    goodput: Goodput | None


def summarize(
    records: Sequence[RequestRecord], duration_s: float, slo: dict[str, float] | None
) -> Figures:
    """Figures of all records over `duration_s` of wall time.

    Latencies are those of complete answers; tokens of broken answers count for nothing.
    """
    records = [record for record in records if record.error != CANCELLED]
    good = [record for record in records if record.error is None]
    prompt_tokens = sum(record.prompt_tokens or 0 for record in good)
    output_tokens = sum(record.num_output_tokens for record in good)
    said_cached = [r.cached_tokens for r in good if r.cached_tokens is not None]
    seconds = max(duration_s, 1e-9)
    failed = [record for record in records if record.error is not None]
    met = sum(meets(record, slo) for record in good) if slo else 0
    return Figures(
        num_requests=len(records),
        num_succeeded=len(good),
        errors=dict(Counter(record.error or "" for record in failed).most_common()),
        error_examples={record.error or "": record.detail for record in reversed(failed)},
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        cached_tokens=sum(said_cached) if said_cached else None,
        requests_per_s=len(good) / seconds,
        output_tokens_per_s=output_tokens / seconds,
        total_tokens_per_s=(prompt_tokens + output_tokens) / seconds,
        ttft_s=distribution(_known(record.ttft_s for record in good)),
        itl_s=distribution(np.concatenate([np.empty(0), *(record.itl_s for record in good)])),
        tpot_s=distribution(_known(record.tpot_s for record in good)),
        e2e_s=distribution(_known(record.e2e_s for record in good)),
        send_delay_s=distribution(
            [r.sent_s - r.intended_s for r in records if r.sent_s is not None]
        ),
        goodput=Goodput(
            slo=slo,
            attainment=met / len(records) if records else 0.0,
            requests_per_s=met / seconds,
        )
        if slo
        else None,
    )


def headline(figures: Figures) -> dict[str, float]:
    """The figures worth an interval over repeats, without those that do not exist."""
    named: dict[str, float | None] = {
        "requests_per_s": figures.requests_per_s,
        "output_tokens_per_s": figures.output_tokens_per_s,
        "total_tokens_per_s": figures.total_tokens_per_s,
    }
    for measure in ("ttft_s", "itl_s", "tpot_s", "e2e_s"):
        of: Distribution = getattr(figures, measure)
        stem = measure.removesuffix("_s")
        named |= {f"{stem}_p50_s": of.p50, f"{stem}_p90_s": of.p90, f"{stem}_p99_s": of.p99}
    if figures.goodput is not None:
        named["goodput_attainment"] = figures.goodput.attainment
        named["goodput_requests_per_s"] = figures.goodput.requests_per_s
    return {name: value for name, value in named.items() if value is not None}


def intervals(repeats: Sequence[Figures]) -> dict[str, Interval]:
    """Mean and 95 % interval of each headline figure over repeats that have it."""
    rows = [headline(figures) for figures in repeats]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: interval([row[name] for row in rows if name in row]) for name in names}


def request_table(records: Sequence[RequestRecord]) -> RequestTable:
    """Every request, in the order of the intended times."""
    ordered = sorted(records, key=lambda record: record.intended_s)
    return RequestTable(
        intended_s=[r.intended_s for r in ordered],
        send_delay_s=[None if r.sent_s is None else r.sent_s - r.intended_s for r in ordered],
        ttft_s=[r.ttft_s for r in ordered],
        e2e_s=[r.e2e_s for r in ordered],
        prompt_tokens=[r.prompt_tokens for r in ordered],
        output_tokens=[r.num_output_tokens for r in ordered],
        cached_tokens=[r.cached_tokens for r in ordered],
        error=[r.error for r in ordered],
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
