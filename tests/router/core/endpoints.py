"""Endpoints for tests of decisions."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any, TypeVar

from shoal.router.core.exact_index import ExactIndex
from shoal.router.core.policies import make_policy
from shoal.router.core.prefix_index import PrefixIndex
from shoal.router.core.profile import Profile
from shoal.router.core.ttft_model import TTFTModels
from shoal.router.core.types import Endpoint, EndpointState, EndpointStatus, RoutingRequest

MODEL = "llama"

Thing = TypeVar("Thing", EndpointState, RoutingRequest)


def endpoint(
    name: str, *, models: tuple[str, ...] = (MODEL,), weight: float = 1.0, **state: Any
) -> EndpointState:
    """Ready, unless told otherwise; words ending in an underscore are labels."""
    labels = {key[:-1]: state.pop(key) for key in list(state) if key.endswith("_")}
    return EndpointState(
        Endpoint(
            endpoint_id=name,
            url=f"http://{name}",
            models=frozenset(models),
            weight=weight,
            labels=labels,
        ),
        **{"status": EndpointStatus.READY, **state},
    )


def changed(what: Thing, **fields: Any) -> Thing:
    """The same with other values in some fields."""
    names = [name for name in dir(what) if not name.startswith("_")]  # compiled ones have no slots
    return type(what)(**{**{name: getattr(what, name) for name in names}, **fields})


def policy(name: str, *, seed: int = 1, **options: Any) -> Profile:
    """A policy with parts of its own, unless they are given."""
    parts: dict[str, Any] = {
        "index": PrefixIndex(),
        "exact_index": ExactIndex(),
        "ttft": TTFTModels(),
        "rng": Random(seed),
    }
    return make_policy(name, **{**parts, **options})


def chosen(
    routing: Profile,
    endpoints: list[EndpointState],
    *,
    times: int = 1,
    request: RoutingRequest | None = None,
    now: float = 1000.0,
) -> Counter[str]:
    """How often each endpoint was chosen."""
    counts: Counter[str] = Counter()
    for _ in range(times):
        decision = routing.decide(request or RoutingRequest(MODEL, 100), endpoints, now)
        assert decision.endpoint is not None, decision.reason
        counts[decision.endpoint.endpoint_id] += 1
    return counts
