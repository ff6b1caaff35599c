"""The routing policies by name: each a composition of filters, one scorer and one picker."""

from __future__ import annotations

from typing import Final

from .cost import CostScorer
from .exact_index import ExactIndex
from .pickers import Best, BestOfTwo, Lots
from .prefix_index import PrefixIndex
from .profile import Picker, Profile, Rng, Scorer
from .scorers import FreeScorer, TurnScorer, WeightScorer
from .session_hash import SessionScorer
from .ttft_model import Coefficients, TTFTModels

POLICY_NAMES: Final = (
    "cost", "round_robin", "random", "power_of_two", "least_loaded", "session", "prefix",
    "prefix_exact",
)  # fmt: skip


COST_REASON: Final = "least estimated time to first token"
PREFIX_REASON: Final = "longest cached prefix for the load"

IN_TOKENS: Final = Coefficients(base_s=64.0, token_s=1.0, running_s=64.0, waiting_s=512.0)
"""What `prefix` counts with in place of learnt seconds: everything in tokens of prefill."""


def make_policy(
    name: str,
    *,
    index: PrefixIndex,
    exact_index: ExactIndex,
    ttft: TTFTModels,
    rng: Rng,
    slow_start_s: float = 0.0,
) -> Profile:
    """The policy of that name. Policies may share the indexes and the models.

    After each decision that is followed the caller records it: `index.record(endpoint_id,
    request.prefix_hashes)`, and where `endpoint_id in exact_index.block_sizes`,
    `exact_index.expect(endpoint_id, request.block_hashes, now)`. Raises ValueError for a name that
    is not in `POLICY_NAMES`.
    """
    if name == "cost":
        scorer: Scorer = CostScorer(
            index=index, exact_index=exact_index, ttft=ttft, rng=rng, reason=COST_REASON
        )
        return Profile(
            name, scorer=scorer, picker=Best(tolerance=0.02), rng=rng, slow_start_s=slow_start_s
        )
    if name in ("prefix", "prefix_exact"):
        scorer = CostScorer(
            index=index,
            exact_index=exact_index if name == "prefix_exact" else None,
            ttft=TTFTModels(prior=IN_TOKENS),
            rng=rng,
            reason=PREFIX_REASON,
            is_learning=False,
        )
        return Profile(
            name, scorer=scorer, picker=Best(tolerance=0.02), rng=rng, slow_start_s=slow_start_s
        )
    if name == "session":
        scorer = SessionScorer(slow_start_s=slow_start_s)
        return Profile(name, scorer=scorer, picker=Best(), rng=rng)
    simple: dict[str, tuple[Scorer, Picker]] = {
        "round_robin": (TurnScorer(), Best()),
        "random": (WeightScorer(), Lots()),
        "power_of_two": (FreeScorer(), BestOfTwo()),
        "least_loaded": (FreeScorer(), Best()),
    }
    if name not in simple:
        raise ValueError(
            f"unknown routing policy {name!r}: choose one of {', '.join(POLICY_NAMES)}"
        )
    scorer, picker = simple[name]
    return Profile(name, scorer=scorer, picker=picker, rng=rng, slow_start_s=slow_start_s)
