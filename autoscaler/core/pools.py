"""Pools: the variants of one role, which share its load, measured in one unit.

The unit is a replica of the variant that can take most; the others count by how much less they can.
For one variant the unit is its replica.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .expectation import Expectation, PoolView
from .mix import Option, cheapest
from .need import load_of
from .observation import VariantObservation
from .spec import Role, ScalingSpec, VariantSpec
from .state import ScalerState, VariantState

LEAST_NEED = 1e-3
"""Of a model that is in use: one replica, whichever costs least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A variant in its pool."""

    spec: VariantSpec
    state: VariantState
    seen: VariantObservation
    size: float
    """What one replica can take, in units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    role: Role
    members: tuple[Member, ...]
    tpot_s: float
    """The objective's."""
    load_of: Callable[[float], float]
    """From requests per second to units."""

    @property
    def view(self) -> PoolView:
        seen = [member.seen for member in self.members]
        return PoolView(
            ready=sum(m.seen.ready * m.size for m in self.members),
            pending=sum(m.seen.pending * m.size for m in self.members),
            num_ready=sum(v.ready for v in seen),
            start_up_s=max(m.state.start_up_s for m in self.members),
            num_waiting=sum(v.num_waiting or 0.0 for v in seen),
            num_first_tokens=_sum([v.num_first_tokens for v in seen]),
            num_in_time=_sum([_in_time(v, self.tpot_s) for v in seen]),
            has_started=any(v.start_up_s for v in seen),
            load_of=self.load_of,
        )


def pools_of(
    spec: ScalingSpec, seen: Mapping[str, VariantObservation], state: ScalerState
) -> list[Pool]:
    """Those with a variant that is seen, in the order of the specification."""
    pools = []
    for role in dict.fromkeys(variant.role for variant in spec.variants):
        variants = [v for v in spec.variants if v.role is role and v.name in seen]
        if not variants:
            continue
        per_request = {
            v.name: load_of(1.0, state.variants[v.name], state.size, spec.slo) for v in variants
        }
        largest = min(per_request, key=per_request.__getitem__)
        members = tuple(
            Member(
                spec=v, state=state.variants[v.name], seen=seen[v.name],
                size=per_request[largest] / per_request[v.name],
            )
            for v in variants
        )  # fmt: skip
        pools.append(
            Pool(
                role=role, members=members, tpot_s=spec.slo.tpot_s,
                load_of=lambda rate, of=state.variants[largest]: load_of(  # type: ignore[misc]
                    rate, of, state.size, spec.slo
                ),
            )
        )  # fmt: skip
    return pools


def choose(pool: Pool, expected: Expectation, *, is_idle: bool) -> dict[str, int]:
    """Numbers of replicas, before bounds and pace: more at once, fewer when it has lasted."""
    if is_idle:
        return {member.spec.name: 0 for member in pool.members}
    present = [member.seen.desired for member in pool.members]
    capacity = sum(n * m.size for n, m in zip(present, pool.members, strict=True))
    up_to = max(expected.up_to, LEAST_NEED)
    if _whole_less(capacity, up_to):
        numbers = _grow(pool.members, present, up_to)
    elif expected.down_to is not None:
        numbers = _shrink(pool.members, present, max(expected.down_to, LEAST_NEED))
    else:
        numbers = present
    return {m.spec.name: n for m, n in zip(pool.members, numbers, strict=True)}


def _grow(members: Sequence[Member], present: Sequence[int], need: float) -> list[int]:
    """The cheapest additions; nothing is given up for them."""
    return cheapest(
        [
            Option(
                size=m.size, cost=m.spec.cost_per_hour, gpus=m.spec.gpus_per_replica, least=n,
                most=max(n, m.spec.max_replicas) if len(members) > 1 else 1 << 30,
            )
            for m, n in zip(members, present, strict=True)
        ],
        need,
    )  # fmt: skip


def _shrink(members: Sequence[Member], present: Sequence[int], need: float) -> list[int]:
    """The cheapest that are enough, of those there are."""
    return cheapest(
        [
            Option(
                size=m.size, cost=m.spec.cost_per_hour, gpus=m.spec.gpus_per_replica,
                least=min(m.spec.min_replicas, n), most=n,
            )
            for m, n in zip(members, present, strict=True)
        ],
        need,
    )  # fmt: skip


def _in_time(seen: VariantObservation, tpot_s: float) -> int | None:
    """Requests whose first token came in time, less the share whose further ones do not.

    The two are not of the same requests: those that end now had their first token a while ago.
    """
    if seen.num_in_time is None:
        return None
    share = 1.0
    if seen.num_tpot_in_time is not None and seen.num_finished:
        share = seen.num_tpot_in_time / seen.num_finished
    elif seen.tpot_s is not None and seen.tpot_s > tpot_s:
        share = 0.0  # the mean misses it: most requests do
    return round(seen.num_in_time * share)


def _whole_less(capacity: float, need: float) -> bool:
    return need - capacity > 1e-6


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
