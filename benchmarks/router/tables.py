"""Which figures of a case a reader sees, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass

from shoal.benchmarks.peers.results_page import NOTHING

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: one figure, or two with a slash between."""

    title: str
    figures: tuple[str, ...]
    form: str = ",.1f"
    scale: float = 1.0

    def cell(self, figures: Figures) -> str:
        if not any(name in figures for name in self.figures):
            return NOTHING
        return " / ".join(
            format(figures[name] * self.scale, self.form) if name in figures else NOTHING
            for name in self.figures
        )


LATENCY = Column("p50 / p99 ms", ("p50_ms", "p99_ms"), ",.2f")
FAILED = Column("failed", ("failed",), ",.0f")
REQUESTS = Column("requests", ("requests",), ",.0f")
CUT = Column("cut streams", ("cut",), ",.0f")
USUAL = Column("usual ms", ("p50_ms",), ",.0f")
WORST = Column("worst ms", ("worst_ms",), ",.0f")
BACK = Column("worker used again after s", ("back_s",), ",.2f")

_PREFIX = (
    Column("hit rate", ("hit_rate",), ".1%"),
    Column("of what is possible", ("ratio_to_bound",), ".1%"),
    Column("requests of the busiest / idlest worker", ("max_share", "min_share"), ".0%"),
    Column("mean TTFT ms", ("ttft_mean_ms",)),
    FAILED,
)
_KILL9 = (REQUESTS, FAILED, CUT, Column("last failure after s", ("last_failure_s",), ",.2f"), USUAL,
          WORST, BACK)  # fmt: skip
_RESTARTS = (REQUESTS, FAILED, CUT, USUAL, WORST)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "paced": (
        Column("CPU us/request", ("cpu_us_per_request",), ",.0f"),
        LATENCY,
        FAILED,
        Column("PSS MiB", ("pss_mib",)),
        Column("processes", ("processes",), ",.0f"),
    ),
    "saturation": (
        Column("requests/s", ("requests_per_s",), ",.0f"),
        Column("CPU us/request", ("cpu_us_per_request",), ",.0f"),
        LATENCY,
        FAILED,
        Column("cores of router / client", ("router_cores", "client_cores"), ",.2f"),
    ),
    "streams": (
        Column("CPU ms per 1,000 tokens", ("cpu_ms_per_1k_tokens",)),
        Column("TTFT p50 / p99 ms", ("ttft_p50_ms", "ttft_p99_ms"), ",.2f"),
        Column("gap p50 / p99 ms", ("gap_p50_ms", "gap_p99_ms"), ",.2f"),
        Column("dropped", ("dropped",), ",.0f"),
        Column("PSS MiB", ("pss_mib",)),
    ),
    "prefix": _PREFIX,
    "exact": _PREFIX,
    "kill9": _KILL9,
    "kill9-streams": _KILL9,
    "hung": (
        REQUESTS, FAILED, USUAL, WORST,
        Column("slow after 2.5 s", ("slow_later",), ",.0f"), BACK,
    ),
    "restart-workers": _RESTARTS,
    "restart-router": _RESTARTS,
    "idle": (
        Column("PSS before / idle / streaming MiB", ("before_mib", "idle_mib", "streams_mib")),
        Column("KiB per idle client", ("idle_kib_per_connection",)),
        Column("KiB per stream", ("kib_per_stream",)),
        FAILED,
    ),
    "soak": (
        Column("minutes", ("minutes",), ",.0f"),
        Column("PSS first / last MiB", ("first_mib", "last_mib")),
        Column("growth KiB/min", ("growth_kib_per_minute",)),
        FAILED,
    ),
}  # fmt: skip

NOTES: dict[str, str] = {
    "paced": "CPU of all processes of the router. Latency from sending to the end of the answer, at"
    " the client.",
    "saturation": "Client, four workers and router share the cores of the machine: requests/s is"
    " what is left for the router, CPU per request is its own.",
    "streams": "The workers wait 50 ms before the first token and 20 ms before each other.",
    "prefix": "Four workers, each with a cache that just holds a quarter of the conversations. What"
    " is possible: one cache for all that never forgets.",
    "exact": "Fake workers of Shoal with caches of the same size. What is possible: as above.",
    "kill9": "24 clients without a pause; killed at 3 s, started again at 8 s. Failed: no answer or"
    " an error. Used again: from when it answers /health.",
    "kill9-streams": "A stream takes 1.2 s, so six of 24 are on the worker when it dies. Cut: ended"
    " without [DONE], or with another text than it should have.",
    "hung": "24 streaming clients without a pause. Shoal gives up a worker without a first byte"
    " after 1 s, nginx one that is silent for 1 s, the others requests that take longer than 1 s in"
    " all.",
    "restart-workers": "SIGTERM, the worker ends what runs, is started, and after 2 s it is the"
    " next one's turn; half of the 24 clients stream.",
    "restart-router": "Shoal: a new process takes over the sockets; nginx: SIGHUP. The others have"
    " no such way.",
    "idle": "Failed counts idle clients that were dropped too.",
    "soak": "200 whole answers a second and 32 streams; growth after the first quarter.",
}  # fmt: skip
