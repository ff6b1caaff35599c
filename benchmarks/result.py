"""What a load test leaves behind: the JSON schema of a run and of a comparison.

Times are seconds, rates are per second of wall time, sizes are bytes. Every latency counts from
the moment the request was *meant* to be sent. A reader must ignore fields it does not know; a
change that breaks readers raises the number in the schema's name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from shoal.errors import ConfigError

RUN_SCHEMA = "shoal.bench.run/1"
COMPARE_SCHEMA = "shoal.bench.compare/1"

Number = float | int


class Distribution(msgspec.Struct, kw_only=True):
    """One latency over all its samples. All but `count` are None when there are no samples."""

    count: int
    mean: float | None = None
    std: float | None = None
    min: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None
    quantiles: list[float] = []
    """Values at 0, 1, ..., 100 % for plots; empty when there are no samples or they are unknown."""


class Interval(msgspec.Struct, kw_only=True):
    """A figure over repeats: the mean and its 95 % confidence interval (Student's t).

    With one repeat `low` and `high` are None: one number says nothing about its spread.
    """

    mean: float
    low: float | None
    high: float | None
    count: int


class Goodput(msgspec.Struct, kw_only=True):
    """Requests that met every objective."""

    slo: dict[str, float]
    """Objective in seconds by measure: `ttft`, `tpot`, `itl` (a request's p99 gap), `e2e`."""
    attainment: float
    """Share of all requests, failed ones included, that met every objective, in [0, 1]."""
    requests_per_s: float


class Timeline(msgspec.Struct, kw_only=True):
    """Columns over the run, one entry a bucket of `bucket_s`; None where nothing happened."""

    bucket_s: float
    t_s: list[float] = []
    """Start of the bucket, from the start of the run."""
    ttft_p50_s: list[float | None] = []
    """Of requests meant to be sent in the bucket."""
    ttft_p99_s: list[float | None] = []
    itl_p50_s: list[float | None] = []
    output_tokens_per_s: list[float] = []
    requests_per_s: list[float] = []
    """Requests meant to be sent in the bucket: the offered load."""
    errors: list[int] = []
    in_flight: list[float] = []
    """Requests sent and not ended, mean over the bucket."""


class Series(msgspec.Struct, kw_only=True):
    """A sampled quantity of the server: `t_s` from the start of the run, and its values."""

    t_s: list[float] = []
    values: list[float] = []


class ServerWatch(msgspec.Struct, kw_only=True):
    """What the server and its process said of themselves during the run."""

    version: str | None = None
    """By its own word, where it has a /version route."""
    gauges: dict[str, Series] = {}
    """By metric name, e.g. `vllm:num_requests_running`; summed over label sets."""
    counters: dict[str, float] = {}
    """Growth over the run, by metric name."""
    cpu_s: float | None = None
    """CPU time the process tree of `--pid` used during the run."""
    cpu_cores: Series | None = None
    """Cores in use between two samples."""
    rss_bytes: Series | None = None
    """Resident memory of the process tree (shared pages counted once a process)."""
    problem: str | None = None
    """Why there are no metrics, when there are none."""


class ClientLoad(msgspec.Struct, kw_only=True):
    """How busy the load generator itself was."""

    processes: int
    cpu_cores: list[float]
    """Mean share of a core each process used."""
    send_delay_p99_s: float | None = None
    """How late requests left compared with the plan; included in every latency."""


class SweepStep(msgspec.Struct, kw_only=True):
    """One rate that a sweep tried."""

    rate: float
    attainment: float
    passed: bool
    requests_per_s: float
    output_tokens_per_s: float
    ttft_p50_s: float | None = None
    ttft_p99_s: float | None = None
    tpot_p50_s: float | None = None
    tpot_p99_s: float | None = None
    num_requests: int = 0


class Sweep(msgspec.Struct, kw_only=True):
    """The search for the highest rate whose attainment stays at or above `target`."""

    target: float
    best_rate: float | None
    """None when even the lowest rate failed."""
    steps: list[SweepStep]
    """In the order they were tried."""


class RequestTable(msgspec.Struct, kw_only=True):
    """Columns, one entry a request, in the order of their intended times (`--save-requests`)."""

    intended_s: list[float] = []
    send_delay_s: list[float | None] = []
    ttft_s: list[float | None] = []
    e2e_s: list[float | None] = []
    prompt_tokens: list[int | None] = []
    output_tokens: list[int] = []
    cached_tokens: list[int | None] = []
    error: list[str | None] = []


class RunResult(msgspec.Struct, kw_only=True):
    """One load test: of one repeat, of several pooled, or the best step of a sweep."""

    schema: str = RUN_SCHEMA
    name: str
    """How reports call it."""
    created: str
    """ISO 8601, UTC."""
    environment: dict[str, Any] = {}
    config: dict[str, Any] = {}
    """What was asked for: url, model, endpoint, workload, load, slo."""
    interrupted: bool = False
    """Stopped by Ctrl-C, or by a `problem`: what follows is what was measured until then."""
    problem: str | None = None
    """Why the load generator could not go on."""

    duration_s: float
    num_requests: int
    num_succeeded: int
    errors: dict[str, int] = {}
    """Failed requests by kind, e.g. `connect`, `http_500`, `timeout`, `cut_stream`."""
    error_examples: dict[str, str] = {}
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int | None = None
    """Prompt tokens the server took from its prefix cache; None when it does not say."""

    offered_requests_per_s: float | None = None
    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    ttft_s: Distribution
    itl_s: Distribution
    tpot_s: Distribution
    e2e_s: Distribution
    send_delay_s: Distribution
    goodput: Goodput | None = None

    client: ClientLoad | None = None
    server: ServerWatch | None = None
    timeline: Timeline | None = None
    intervals: dict[str, Interval] = {}
    """Over repeats, by figure: `ttft_p50_s`, `output_tokens_per_s`, ..."""
    sweep: Sweep | None = None
    requests: RequestTable | None = None
    warnings: list[str] = []


class Ratio(msgspec.Struct, kw_only=True):
    """A figure of A divided by the same figure of B, over pairs of neighbouring runs."""

    median: float
    low: float | None
    high: float | None
    """95 % interval of the geometric mean of the pairs (Student's t on logarithms)."""
    geometric_mean: float
    pairs: list[float]


class CompareResult(msgspec.Struct, kw_only=True):
    """Two servers measured in turns: the only honest comparison on a noisy machine."""

    schema: str = COMPARE_SCHEMA
    created: str
    environment: dict[str, Any] = {}
    config: dict[str, Any] = {}
    interrupted: bool = False
    a: RunResult
    b: RunResult
    ratios: dict[str, Ratio]
    warnings: list[str] = []


Result = RunResult | CompareResult


def encode(result: Result) -> bytes:
    """Indented JSON; numbers in full precision."""
    return msgspec.json.format(msgspec.json.encode(result), indent=1)


def decode(content: bytes, *, source: str) -> Result:
    """Read a result of ours. Raises ConfigError naming `source` for anything else."""
    try:
        head = msgspec.json.decode(content, type=_Head)
        kinds: dict[str, type[Result]] = {RUN_SCHEMA: RunResult, COMPARE_SCHEMA: CompareResult}
        if head.schema not in kinds:
            known = ", ".join(kinds)
            raise ConfigError(f"{source}: schema {head.schema!r} is not one of {known}")
        return msgspec.json.decode(content, type=kinds[head.schema])
    except msgspec.DecodeError as error:
        raise ConfigError(f"{source} is not a benchmark result: {error}") from None


class _Head(msgspec.Struct):
    schema: str = "(none)"


def write(result: Result, path: Path) -> None:
    """Write beside the target first, so that a reader never sees half a file."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(encode(result))
    partial.replace(path)
