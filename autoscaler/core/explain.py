"""The numbers behind a decision, by name, for people and plots."""

from __future__ import annotations

from collections.abc import Sequence

from .demand import Demand, Outlook
from .expectation import Expectation
from .observation import Observation
from .pools import Pool
from .spec import Role
from .state import PoolState, RequestSize

HOUR_S = 3600.0
LEAST_SHARE = 0.01
"""Of a forecast that is worth naming."""


def demand_numbers(outlook: Outlook, demand: Demand) -> dict[str, float]:
    """Requests per second, and how far each forecast is trusted."""
    numbers = {
        "arrivals_per_s": outlook.now, "expected_per_s": outlook.expected,
        "surge_per_s": outlook.surge, "spread": outlook.spread,
    }  # fmt: skip
    shares = {f"forecast.{name}": share for name, share in demand.weights().items()}
    return numbers | {name: share for name, share in shares.items() if share >= LEAST_SHARE}


def pool_numbers(pool: Pool, expected: Expectation, state: PoolState) -> dict[str, float]:
    """In units of the pool: replicas of its largest variant."""
    numbers = {
        "load": expected.load, "need": expected.need, "backlog": expected.backlog,
        "beta": state.headroom.beta,
    }  # fmt: skip
    if expected.down_to is not None:
        numbers["down_to"] = expected.down_to
    return {f"{pool.name}.{key}": value for key, value in numbers.items()}


def variant_numbers(pool: Pool, size: RequestSize) -> dict[str, float]:
    """What one replica can take at the objective: requests, and tokens per unit of cost."""
    numbers = {}
    for member in pool.members:
        numbers[f"{member.name}.capacity_per_s"] = member.rate
        if member.spec.cost_per_hour > 0:
            is_prefill = pool.role is Role.PREFILL
            tokens = size.input_tokens if is_prefill else size.output_tokens
            kind = "prompt_tokens" if is_prefill else "tokens"
            per_cost = member.rate * tokens * HOUR_S / member.spec.cost_per_hour
            numbers[f"{member.name}.{kind}_per_cost"] = per_cost
    return numbers


def model_numbers(pools: Sequence[Pool], observation: Observation) -> dict[str, float]:
    """What is had for the money now: output tokens per unit of cost, of all that is not gone."""
    cost = sum(
        pool.cost([m.seen.ready + m.seen.pending - m.lacking for m in pool.members])
        for pool in pools
    )
    numbers = {"cost_per_hour": cost}
    if cost > 0 and observation.output_tokens is not None:
        per_hour = observation.output_tokens / observation.interval_s * HOUR_S
        numbers["tokens_per_cost"] = per_hour / cost
    return numbers
