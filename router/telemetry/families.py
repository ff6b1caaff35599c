"""What the router counts: name, kind, labels, meaning and buckets of each family of metrics."""

from __future__ import annotations

from typing import Literal, NamedTuple

from shoal import metrics as names

OTHER = "other"
"""Label value of all that is not known, or one too many."""
MAX_MODELS = 512
MAX_TENANTS = 1000
"""Of one process; later ones are counted as `other`."""
MAX_VALUES = 64
"""Of labels whose values the router's own code chooses."""


class Family(NamedTuple):
    """One metric with its labels."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    """Upper bounds of the buckets of a histogram, without infinity."""


_FAMILIES = (
    Family(
        names.ROUTER_REQUESTS, "counter",
        "Requests answered, by the status the client saw (499: it left before the answer).",
        ("model", "code"),
    ),
    Family(
        names.ROUTER_REQUEST_DURATION, "histogram",
        "From the first byte of a request to the last of its answer.",
        ("model",), names.ROUTER_DURATION_BUCKETS,
    ),
    Family(
        names.ROUTER_TIME_TO_FIRST_TOKEN, "histogram",
        "From the first byte of a request to the first of its answer's body.",
        ("model",), names.TIME_TO_FIRST_TOKEN_BUCKETS,
    ),
    Family(
        names.ROUTER_CHUNK_GAP, "histogram",
        "Mean time between chunks of a streamed answer; one observation a stream.",
        ("model",), (0.001, 0.0025, 0.005, *names.INTER_TOKEN_LATENCY_BUCKETS),
    ),
    Family(
        names.ROUTER_TOKENS, "counter",
        "Tokens that workers reported: prompt (cached ones included), cached, completion.",
        ("model", "tenant", "kind"),
    ),
    Family(
        names.ROUTER_COST, "counter",
        "Price of those tokens, in the currency of telemetry.prices.", ("model", "tenant"),
    ),
    Family(
        names.ROUTER_PREFIX_QUERY_TOKENS, "counter",
        "Prompt tokens of routed requests, as the router estimates them.", ("model",),
    ),
    Family(
        names.ROUTER_PREFIX_HIT_TOKENS, "counter",
        "Those expected in the prefix cache of the chosen endpoint.", ("model",),
    ),
    Family(
        names.ROUTER_IN_FLIGHT, "gauge", "Requests an endpoint has of this router now.",
        ("endpoint",),
    ),
    Family(
        names.ROUTER_ENDPOINT_STATUS, "gauge", "1 for the status an endpoint has.",
        ("endpoint", "status"),
    ),
    Family(
        names.ROUTER_BREAKER_STATE, "gauge",
        "Processes of the router whose breaker for the endpoint is in this state.",
        ("endpoint", "state"),
    ),
    Family(
        names.ROUTER_DECISIONS, "counter", "Requests sent to an endpoint, by the deciding policy.",
        ("policy", "endpoint"),
    ),
    Family(
        names.ROUTER_UPSTREAM_CONNECTS, "counter", "Connections opened to an endpoint.",
        ("endpoint", "outcome"),
    ),
    Family(
        names.ROUTER_RETRIES, "counter", "Requests sent again before the first byte.", ("reason",)
    ),
    Family(
        names.ROUTER_FAILOVERS, "counter", "Streams whose worker died, by what became of them.",
        ("outcome",),
    ),
    Family(
        names.ROUTER_HEDGES, "counter", "Second copies of late requests, by who answered first.",
        ("outcome",),
    ),
    Family(
        names.ROUTER_SHED, "counter", "Requests refused to protect the rest.", ("reason",)
    ),
    Family(
        names.ROUTER_QUEUED_REQUESTS, "gauge", "Requests that wait for a free worker.", ("band",)
    ),
    Family(
        names.ROUTER_QUEUE_WAIT, "histogram", "Wait of those that had to.",
        ("band",), names.ROUTER_DURATION_BUCKETS,
    ),
    Family(
        names.ROUTER_HELD_REQUESTS, "gauge",
        "Requests held for a model that has no endpoint: demand for scaling from zero.",
        ("model",),
    ),
    Family(
        names.ROUTER_ARRIVALS, "counter",
        "Requests admitted, counted as they come; the model as its workers name it.", ("model",),
    ),
    Family(
        names.ROUTER_MODEL_QUEUED_REQUESTS, "gauge",
        "Requests that wait for a free worker; the model as its workers name it.", ("model",),
    ),
    Family(
        names.ROUTER_STREAM_TIME_TO_FIRST_TOKEN, "histogram",
        "From the first byte of a request for a stream to the first of its body, counted then.",
        ("model",), names.ROUTER_STREAM_TIME_TO_FIRST_TOKEN_BUCKETS,
    ),
    Family(names.ROUTER_CONNECTIONS_OPEN, "gauge", "Connections of clients."),
    Family(names.ROUTER_CONNECTIONS, "counter", "Connections of clients accepted."),
    Family(
        names.ROUTER_LOG_LINES_DROPPED, "counter",
        "Log lines lost because their file or pipe was too slow or full.", ("log",),
    ),
    Family(
        names.ROUTER_SPANS_DROPPED, "counter", "Spans lost because the collector was too slow."
    ),
)  # fmt: skip

FAMILIES = {family.name: family for family in _FAMILIES}
