"""The routing policies by name: each a composition of filters, one scorer and one picker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .exact_index import ExactIndex
from .prefix_index import PrefixIndex
from .ttft_model import TTFTModels
from .types import Decision, EndpointState, RoutingRequest


class Rng(Protocol):
    """`random.Random` fits; a test passes a list of numbers in disguise."""

    def random(self) -> float:
        """Uniform in [0, 1)."""
        ...


class RoutingPolicy(Protocol):
    """Chooses the endpoint of a request."""

    @property
    def name(self) -> str: ...

    def decide(
        self, request: RoutingRequest, endpoints: Sequence[EndpointState], now: float
    ) -> Decision:
        """Where the request goes; the policy counts on it being sent there."""
        ...


POLICY_NAMES = (
    "cost", "round_robin", "random", "power_of_two", "least_loaded", "session", "prefix",
    "prefix_exact",
)  # fmt: skip


def make_policy(
    name: str,
    *,
    index: PrefixIndex,
    exact_index: ExactIndex,
    ttft: TTFTModels,
    rng: Rng,
    slow_start_s: float = 0.0,
) -> RoutingPolicy:
    """The policy of that name. Policies may share the indexes and the models.

    After each decision that is followed the caller records it: `index.record(endpoint_id,
    request.prefix_hashes)`, and where `endpoint_id in exact_index.block_sizes`,
    `exact_index.expect(endpoint_id, request.block_hashes, now)`. Raises ValueError for a name that
    is not in `POLICY_NAMES`.
    """
    raise ValueError(f"unknown routing policy {name!r}: choose one of {', '.join(POLICY_NAMES)}")
