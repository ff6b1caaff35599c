"""Pools: the variants of one role, which share its load, measured in one unit.

The unit is a replica of the variant that can take most; the others count by how much less they can.
For one variant the unit is its replica.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log

from .expectation import PoolView
from .mix import Option
from .need import is_in_reach, replicas_per_rate
from .observation import VariantObservation
from .spec import Role, ScalingSpec, VariantSpec
from .state import ScalerState, VariantState

LEARNT = 30
"""Observations after which a variant is believed for itself, and no more by its like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A variant in its pool."""

    spec: VariantSpec
    state: VariantState
    seen: VariantObservation
    size: float
    """What one replica can take, in units."""
    rate: float
    """What one replica can take, in requests per second at the objective."""
    is_known: bool
    """Whether its replicas were seen now; else they count as they were, and none is asked for."""
    room: int
    """How many more of it are of use, as far as there is a place for them."""

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def lacking(self) -> int:
        """Replicas that are asked for and find no place."""
        return self.state.place.lacking

    @property
    def counted(self) -> int:
        """Replicas that are there or coming, within the bounds; not those that lack a place."""
        number = self.seen.desired - self.lacking
        least = min(self.spec.min_replicas, number) if self.lacking else self.spec.min_replicas
        return min(max(number, least), self.spec.max_replicas) if self.is_known else number

    @property
    def most(self) -> int:
        """Replicas that may be counted on, as far as can be known."""
        return max(min(self.spec.max_replicas, self.counted + self.room), self.counted)

    @property
    def is_learnt(self) -> bool:
        return self.state.costs.num_observations >= LEARNT

    @property
    def is_proven(self) -> bool:
        """Whether it is known what it can take, and that there is a place for it."""
        return self.is_learnt and self.room > 1

    def option(self, least: int, most: int) -> Option:
        """For the search: so many at the least and at the most; as many as are counted on if its
        replicas were not seen."""
        if not self.is_known:
            least = most = self.counted
        return Option(
            size=self.size, cost=self.spec.cost_per_hour, gpus=self.spec.gpus_per_replica,
            least=least, most=max(most, least),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    role: Role
    members: tuple[Member, ...]
    load_of: Callable[[float], float]
    """From requests per second to units."""
    in_reach: bool
    """Whether an idle replica of any variant is as fast as the objective asks."""

    @property
    def name(self) -> str:
        """Of the variant, where there is but one."""
        return self.members[0].name if len(self.members) == 1 else str(self.role)

    def capacity(self, numbers: Sequence[int]) -> float:
        """In units, of so many replicas of each variant."""
        return sum(n * m.size for n, m in zip(numbers, self.members, strict=True))

    def cost(self, numbers: Sequence[int]) -> float:
        """Per hour."""
        return sum(n * m.spec.cost_per_hour for n, m in zip(numbers, self.members, strict=True))

    def gpus(self, numbers: Sequence[int]) -> int:
        return sum(n * m.spec.gpus_per_replica for n, m in zip(numbers, self.members, strict=True))

    @property
    def view(self) -> PoolView:
        seen = [member.seen for member in self.members]
        return PoolView(
            ready=self.capacity([v.ready for v in seen]),
            pending=self.capacity([max(m.seen.pending - m.lacking, 0) for m in self.members]),
            start_up_s=max(m.state.start_up_s for m in self.members),
            num_waiting=sum(v.num_waiting or 0.0 for v in seen),
            load_of=self.load_of,
        )


def pools_of(
    spec: ScalingSpec, seen: Mapping[str, VariantObservation], state: ScalerState, now: float
) -> list[Pool]:
    """Those with a variant that is seen, in the order of the specification."""
    pools = []
    for role in dict.fromkeys(variant.role for variant in spec.variants):
        variants = [v for v in spec.variants if v.role is role]
        if any(v.name in seen for v in variants):
            pools.append(_pool(role, variants, spec, seen, state, now))
    return pools


def _pool(
    role: Role, variants: Sequence[VariantSpec], spec: ScalingSpec,
    seen: Mapping[str, VariantObservation], state: ScalerState, now: float,
) -> Pool:  # fmt: skip
    per_rate = _believed(role, variants, spec, state)
    unit = min(per_rate.values())
    in_reach = {
        v.name: is_in_reach(state.variants[v.name], role, state.size, spec.slo) for v in variants
    }
    members = []
    nothing = VariantObservation(name="", desired=0, ready=0)
    for variant in variants:
        name, learnt = variant.name, state.variants[variant.name]
        members.append(
            Member(
                spec=variant, state=learnt, seen=seen.get(name) or learnt.last or nothing,
                size=unit / per_rate[name], rate=1 / per_rate[name], is_known=name in seen,
                room=learnt.place.room(now)
                if in_reach[name] or not any(in_reach.values())
                else 0,
            )
        )  # fmt: skip
    return Pool(
        role=role, members=tuple(members), load_of=lambda rate: rate * unit,
        in_reach=any(in_reach.values()),
    )  # fmt: skip


def _believed(
    role: Role, variants: Sequence[VariantSpec], spec: ScalingSpec, state: ScalerState
) -> dict[str, float]:
    """Replicas of each variant that one request per second keeps busy.

    What is not learnt of a variant is concluded from the others, as `relative_capacity` says; what
    is learnt counts the more the more of it there is.
    """
    own = {
        v.name: replicas_per_rate(state.variants[v.name], role, state.size, spec.slo)
        for v in variants
    }
    if len(variants) == 1:
        return own
    worth = {v.name: state.variants[v.name].efficiency.value for v in variants}
    own = {name: own[name] * max(worth.values()) / worth[name] for name in own}
    known = {
        v.name: min(state.variants[v.name].costs.num_observations / LEARNT, 1.0) for v in variants
    }
    weights = known if any(known.values()) else dict.fromkeys(own, 1.0)
    standard = sum(
        weights[v.name] * log(own[v.name] * v.relative_capacity) for v in variants
    ) / sum(weights.values())  # log of a variant's whose relative capacity is 1
    return {
        v.name: exp(
            known[v.name] * log(own[v.name])
            + (1 - known[v.name]) * (standard - log(v.relative_capacity))
        )
        for v in variants
    }
