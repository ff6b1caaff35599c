"""From requests to replicas: what one replica can take at the objective."""

from __future__ import annotations

from .spec import Role, SloSpec
from .state import RequestSize, VariantState

LEAST_WORK_S = 1e-6
"""Of a request: that tokens cost nothing is not believed."""
KV_LIMIT = 0.9
"""Of a replica's cache that requests may fill on average."""
LEAST_CAPACITY = 0.2
"""Also where the objective is out of reach: beyond this, more replicas hardly help."""


def replicas_per_rate(variant: VariantState, role: Role, size: RequestSize, slo: SloSpec) -> float:
    """How many replicas one request per second keeps busy, each at its capacity."""
    inputs = 0.0 if role is Role.DECODE else size.input_tokens
    outputs = 0.0 if role is Role.PREFILL else size.output_tokens
    work = max(variant.costs.cost.load(inputs, outputs), LEAST_WORK_S)
    return work / max(_capacity(variant, role, work, outputs, slo), LEAST_CAPACITY)


def is_in_reach(variant: VariantState, role: Role, size: RequestSize, slo: SloSpec) -> bool:
    """Whether an idle replica is as fast as the objective asks, so that more of them help."""
    cost = variant.costs.cost
    if role is Role.PREFILL:
        return cost.in_s * size.input_tokens < slo.ttft_s
    return cost.base_s < slo.tpot_s


def _capacity(
    variant: VariantState, role: Role, work_s: float, output_tokens: float, slo: SloSpec
) -> float:
    """Share of its time that a replica may give to requests, for them to be as fast as promised.

    Whatever shares a replica's time takes 1 / (1 - load) as long as alone. For prefill that is the
    prompt, `work_s` alone, within the time to the first token. Elsewhere it is a token; and the
    running requests, rate * tpot of them, must fit into the KV cache.
    """
    cost = variant.costs.cost
    if role is Role.PREFILL:
        return 1 - work_s / slo.ttft_s
    limit = cost.max_load(slo.tpot_s)
    if variant.kv_usage_per_request > 0 and work_s > 0:
        most_running = KV_LIMIT / variant.kv_usage_per_request
        # running = x_out * base / (1 - load), and x_out = load * output_tokens / work.
        per_load = output_tokens / work_s * cost.base_s
        limit = min(limit, most_running / (most_running + per_load))
    return limit
