"""A pool whose variants' capacities are given and not learnt."""

from __future__ import annotations

from dataclasses import dataclass

from shoal.autoscaler.core.expectation import Expectation
from shoal.autoscaler.core.observation import VariantObservation
from shoal.autoscaler.core.place import MANY
from shoal.autoscaler.core.pools import LEARNT, Member, Pool
from shoal.autoscaler.core.spec import Role, VariantSpec
from shoal.autoscaler.core.state import VariantState
from shoal.autoscaler.core.work import TokenCosts


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A variant, its replicas now, and what is known of it."""

    name: str
    size: float = 1.0
    cost: float = 1.0
    ready: int = 0
    pending: int = 0
    lacking: int = 0
    least: int = 0
    most: int = 10
    gpus: int = 1
    room: int = MANY
    is_known: bool = True
    is_learnt: bool = True
    kept_until: float = 0.0

    def member(self) -> Member:
        state = VariantState(costs=TokenCosts(), start_up_s=60.0)
        state.place.lacking = self.lacking
        state.edits.kept_until = self.kept_until
        state.costs.num_observations = LEARNT if self.is_learnt else 0
        return Member(
            spec=VariantSpec(
                name=self.name, min_replicas=self.least, max_replicas=self.most,
                gpus_per_pod=self.gpus, cost_per_hour=self.cost,
            ),
            state=state,
            seen=VariantObservation(
                name=self.name, desired=self.ready + self.pending, ready=self.ready,
                pending=self.pending, unschedulable=self.lacking,
            ),
            size=self.size, rate=self.size, is_known=self.is_known,
            room=0 if self.lacking else self.room,
        )  # fmt: skip


def make_pool(*kinds: Kind, role: Role = Role.BOTH) -> Pool:
    return Pool(
        role=role, members=tuple(kind.member() for kind in kinds),
        load_of=lambda rate: rate, in_reach=True,
    )  # fmt: skip


def expecting(up_to: float, down_to: float | None = None) -> Expectation:
    return Expectation(load=up_to, need=up_to, backlog=0.0, up_to=up_to, down_to=down_to)
