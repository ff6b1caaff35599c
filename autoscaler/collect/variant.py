"""The workers of one variant, made one observation. Pure.

Those that do not answer, or are new, are taken for the mean of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..core.observation import VariantObservation
from . import worker_page as of
from .buckets import in_time_at_best, num_values
from .counters import Counters, Growth
from .worker_page import WorkerPage


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker of an interval."""

    page: WorkerPage
    growth: Growth
    is_ready: bool
    """False: it drains, and gets no new requests."""
    num_running: float
    """Mean of the interval."""


class Workers:
    """Of one model, by address: what they said last."""

    def __init__(self) -> None:
        self._counters: dict[str, Counters] = {}
        self._num_running: dict[str, float] = {}

    def read(self, now: float, url: str, page: WorkerPage, *, is_ready: bool) -> Worker | None:
        """Take in a page; None: it is the first of this worker, and tells no growth."""
        growth = self._counters.setdefault(url, Counters()).grow(
            now, page.counts, started=page.started
        )
        at_end = page.num_running or 0.0
        at_begin = self._num_running.get(url, at_end)
        self._num_running[url] = at_end
        if growth is None:
            return None
        # Each gap between two tokens of a request is time that it ran: their sum over the interval
        # is the number of requests that ran, exactly; two samples are a guess.
        running = growth.per_s(of.GAP_SECONDS) if page.has_gaps else (at_begin + at_end) / 2
        return Worker(page, growth, is_ready, running)

    def keep(self, urls: set[str]) -> None:
        """Forget all others: pods come and go."""
        for url in self._counters.keys() - urls:
            del self._counters[url]
            self._num_running.pop(url, None)


def observe(
    seen: VariantObservation, workers: Sequence[Worker], *, num_endpoints: int, ttft_s: float
) -> VariantObservation:
    """`seen` as its target told, with what its workers say; `num_endpoints`: those that are ready.

    Rates and running requests are those of ready replicas, first tokens and ends those of all.
    """
    if not workers:
        return seen
    ready = [worker for worker in workers if worker.is_ready]
    has_gaps = all(worker.page.has_gaps for worker in workers)
    total = good = 0.0
    for worker in workers:
        requests, in_time = in_time_at_best(worker.growth.amounts, ttft_s)
        total, good = total + requests, good + in_time
    # Engines may put out several tokens at once: fewer gaps than tokens.
    further = _sum(workers, of.GENERATED) - total
    seen = replace(
        seen,
        tpot_s=_sum(workers, of.GAP_SECONDS) / further if has_gaps and further > 0 else None,
        num_first_tokens=round(total),
        num_in_time=round(good),
        num_finished=round(_sum(workers, of.FINISHED)),
    )
    if not ready:
        return seen
    others = max(num_endpoints, len(ready)) / len(ready)
    usages = [w.page.kv_usage for w in ready if w.page.kv_usage is not None]
    return replace(
        seen,
        num_running=sum(w.num_running for w in ready) * others,
        num_waiting=sum(w.page.num_waiting or 0.0 for w in ready) * others,
        kv_usage=max(usages) if usages else None,
        input_tokens_per_s=sum(map(_computed_per_s, ready)) * others,
        output_tokens_per_s=sum(w.growth.per_s(of.GENERATED) for w in ready) * others,
    )


def as_routers_saw(
    variants: Sequence[VariantObservation], *, num_streams: float, num_streams_in_time: float
) -> list[VariantObservation]:
    """First tokens in time, with the wait at the router that workers know nothing of.

    Routers know the share of streams that were in time, of all variants together and with finer
    edges; workers tell the variants apart. Without streams what workers say stays.
    """
    if not num_streams:
        return list(variants)
    share = num_streams_in_time / num_streams
    total = sum(v.num_first_tokens or 0 for v in variants)
    if not total:  # no worker measures it
        if len(variants) != 1:
            return list(variants)
        requests = round(num_streams)
        return [replace(variants[0], num_first_tokens=requests,
                        num_in_time=round(share * requests))]  # fmt: skip
    overall = sum(v.num_in_time or 0 for v in variants) / total
    return [_with_share(variant, share, overall) for variant in variants]


def _with_share(variant: VariantObservation, share: float, overall: float) -> VariantObservation:
    if not variant.num_first_tokens or variant.num_in_time is None:
        return variant
    beside = variant.num_in_time / variant.num_first_tokens / overall if overall else 1.0
    in_time = round(min(share * beside, 1.0) * variant.num_first_tokens)
    return replace(variant, num_in_time=in_time)


def tokens_of(workers: Sequence[Worker], interval_s: float) -> tuple[int, float | None]:
    """(tokens put out in the interval, mean prompt tokens that a started request made compute)."""
    generated = sum(w.growth.per_s(of.GENERATED) for w in workers) * interval_s
    started = sum(num_values(w.growth.amounts) for w in workers)
    computed = sum(_computed_per_s(w) * w.growth.seconds for w in workers)
    return round(generated), computed / started if started else None


def _computed_per_s(worker: Worker) -> float:
    growth = worker.growth
    return max(growth.of(of.PROMPT) - growth.of(of.CACHED), 0.0) / growth.seconds


def _sum(workers: Sequence[Worker], name: str) -> float:
    return sum(worker.growth.of(name) for worker in workers)


def labels_match(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether an endpoint with these labels is of the variant."""
    return all(labels.get(name) == value for name, value in wanted.items())
