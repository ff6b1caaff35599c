"""From a rate of requests to a load in replicas: what a replica can take at the objective."""

from __future__ import annotations

from .spec import SloSpec
from .state import RequestSize, VariantState

KV_LIMIT = 0.9
"""Of a replica's cache that requests may fill on average."""
LEAST_CAPACITY = 0.05


def request_work_s(variant: VariantState, size: RequestSize) -> float:
    """Seconds of a replica's time that a request of mean size takes."""
    return variant.costs.cost.load(size.input_tokens, size.output_tokens)


def capacity(variant: VariantState, size: RequestSize, slo: SloSpec) -> float:
    """Share of its time that a replica may give to tokens, for them to be as fast as promised.

    Two limits: a token takes base / (1 - load), and the running requests, rate * tpot of them, must
    fit into the KV cache.
    """
    cost = variant.costs.cost
    limit = cost.max_load(slo.tpot_s)
    work = request_work_s(variant, size)
    if variant.kv_usage_per_request > 0 and work > 0:
        most_running = KV_LIMIT / variant.kv_usage_per_request
        # running = x_out * base / (1 - load), and x_out = load * output_tokens / work.
        per_load = size.output_tokens / work * cost.base_s
        limit = min(limit, most_running / (most_running + per_load))
    return max(limit, LEAST_CAPACITY)


def load_of(rate: float, variant: VariantState, size: RequestSize, slo: SloSpec) -> float:
    """How many replicas a rate of requests keeps busy, each at its capacity."""
    return rate * request_work_s(variant, size) / capacity(variant, size, slo)
