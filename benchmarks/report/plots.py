"""Which charts a report has: distributions, the timeline of a run, the curve of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shoal.benchmarks.result import RunResult, Sweep
from shoal.benchmarks.result import Series as Sampled

from . import numbers
from .charts import Chart, Series, draw
from .figures import MEASURES, Measure
from .markup import Markup, element
from .numbers import Quantity

RUNNING = ("vllm:num_requests_running", "sglang:num_running_reqs", "llamacpp:requests_processing")
WAITING = ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "llamacpp:requests_deferred")
CACHE = ("vllm:kv_cache_usage_perc", "sglang:token_usage", "llamacpp:kv_cache_usage_ratio")
WIDE = 20.0
"""Above this ratio of largest to smallest value a distribution gets a logarithmic axis."""
NARROW = 0.3
"""If the smallest value is above this share of the largest, the axis begins beside it: from zero,
a narrow distribution is a vertical line."""


def distributions(runs: Sequence[RunResult]) -> Markup | None:
    """A cumulative distribution of every latency, all runs in one chart."""
    return _grid([_distribution(measure, runs) for measure in MEASURES])


def _distribution(measure: Measure, runs: Sequence[RunResult]) -> Markup | None:
    lines = [
        Series(
            name=run.name,
            points=[(value, percent / 100) for percent, value in enumerate(quantiles)],
            colour=index,
        )
        for index, run in enumerate(runs)
        if (quantiles := measure.of(run).quantiles)
    ]
    values = [x for line in lines for x, _ in line.points]
    low, high = min(values, default=0.0), max(values, default=0.0)
    wide = low > 0 and high / low > WIDE
    return draw(
        Chart(
            title=f"{measure.label}: {measure.meaning}",
            series=lines,
            y=Quantity.SHARE,
            y_range=(0.0, 1.0),
            log_x=wide,
            x_from_zero=low < NARROW * high,
            x_label="at most",
        )
    )


def timeline(run: RunResult) -> Markup | None:
    """The run over time, as the client and the server saw it, all on the same axis."""
    plans = [*_seen_by_client(run), *_seen_by_server(run)]
    end_s = max((t_s[-1] for plan in plans for _, t_s, _ in plan.lines if t_s), default=0.0)
    return _grid(
        [
            draw(
                Chart(
                    title=plan.title,
                    series=[
                        Series(name=name, points=list(zip(t_s, values, strict=True)), colour=index)
                        for index, (name, t_s, values) in enumerate(plan.lines)
                        if t_s
                    ],
                    x_range=(0.0, end_s),
                    y=plan.y,
                    y_range=plan.y_range,
                    x_label="time",
                )
            )
            for plan in plans
        ]
    )


Line = tuple[str, Sequence[float], Sequence[float | None]]
"""Name, times, values."""


@dataclass(frozen=True, slots=True)
class _OverTime:
    """One chart of the timeline."""

    title: str
    y: Quantity
    lines: Sequence[Line]
    y_range: tuple[float, float] | None = None


def _seen_by_client(run: RunResult) -> list[_OverTime]:
    if (line := run.timeline) is None:
        return []
    t_s = [start_s + line.bucket_s / 2 for start_s in line.t_s]
    return [
        _OverTime("TTFT by the time of sending", Quantity.SECONDS, [
            ("p50", t_s, line.ttft_p50_s), ("p99", t_s, line.ttft_p99_s)]),
        _OverTime("Gap between tokens, p50", Quantity.SECONDS, [("ITL p50", t_s, line.itl_p50_s)]),
        _OverTime("Output tokens per second", Quantity.NUMBER, [
            ("output", t_s, line.output_tokens_per_s)]),
        _OverTime("Requests in flight, and their rate", Quantity.NUMBER, [
            ("in flight", t_s, line.in_flight), ("sent per second", t_s, line.requests_per_s)]),
    ]  # fmt: skip


def _seen_by_server(run: RunResult) -> list[_OverTime]:
    if (server := run.server) is None:
        return []
    gauges = server.gauges
    return [
        _OverTime("The server's requests", Quantity.NUMBER, [
            ("running", *_sampled(gauges, RUNNING)), ("waiting", *_sampled(gauges, WAITING))]),
        _OverTime("KV cache in use", Quantity.SHARE, [
            ("KV cache", *_sampled(gauges, CACHE))], y_range=(0.0, 1.0)),
        _OverTime("Cores the server used", Quantity.NUMBER, [
            ("cores", *_columns(server.cpu_cores))]),
        _OverTime("Memory of the server", Quantity.BYTES, [
            ("resident", *_columns(server.rss_bytes))]),
    ]  # fmt: skip


def sweep(found: Sweep) -> Markup | None:
    """Attainment, TTFT and throughput over the rates that were tried."""
    steps = sorted(found.steps, key=lambda step: step.rate)
    rates = [step.rate for step in steps]
    best = None
    if found.best_rate is not None:
        best = (found.best_rate, f"best: {numbers.rate(found.best_rate, 'req')}")

    def chart(
        title: str,
        y: Quantity,
        lines: Sequence[tuple[str, Sequence[float | None]]],
        *,
        share: bool = False,
    ) -> Markup | None:
        series = [
            Series(name=name, points=list(zip(rates, values, strict=True)), colour=i, dots=True)
            for i, (name, values) in enumerate(lines)
        ]
        level = (found.target, f"target: {numbers.share(found.target)}") if share else None
        return draw(
            Chart(
                title=title, series=series, x=Quantity.NUMBER, y=y, x_label="requests/s offered",
                y_range=(0.0, 1.0) if share else None, level=level, marker=best,
            )
        )  # fmt: skip

    return _grid(
        [
            chart(
                "Requests within the objectives",
                Quantity.SHARE,
                [("met", [step.attainment for step in steps])],
                share=True,
            ),
            chart(
                "TTFT",
                Quantity.SECONDS,
                [
                    ("p50", [step.ttft_p50_s for step in steps]),
                    ("p99", [step.ttft_p99_s for step in steps]),
                ],
            ),
            chart(
                "Output tokens per second",
                Quantity.NUMBER,
                [("output", [step.output_tokens_per_s for step in steps])],
            ),
            chart(
                "Time per output token",
                Quantity.SECONDS,
                [
                    ("p50", [step.tpot_p50_s for step in steps]),
                    ("p99", [step.tpot_p99_s for step in steps]),
                ],
            ),
        ]
    )


Columns = tuple[Sequence[float], Sequence[float | None]]


def _sampled(gauges: dict[str, Sampled], names: Sequence[str]) -> Columns:
    """The first of these gauges that the server has."""
    return _columns(next((gauges[name] for name in names if name in gauges), None))


def _columns(series: Sampled | None) -> Columns:
    return ([], []) if series is None else (series.t_s, series.values)


def _grid(charts: Sequence[Markup | None]) -> Markup | None:
    drawn = [chart for chart in charts if chart is not None]
    return element("div", *drawn, class_="charts") if drawn else None
