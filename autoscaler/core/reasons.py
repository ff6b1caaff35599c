"""Why a pool gets the numbers it gets, in words with numbers in them.

What concerns all variants of a pool is said once, in the pool's name: that of the variant where
there is but one, else the role.
"""

from __future__ import annotations

from .choice import Choice, Part
from .decision import Reason, ReasonKind
from .expectation import Expectation
from .mix import TINY
from .pools import Member, Pool
from .spec import Pace


def reasons_of(
    pool: Pool, expected: Expectation, choice: Choice, pace: Pace, part: Part, *,
    gpus: int | None,
) -> list[Reason]:  # fmt: skip
    found = []

    def say(kind: ReasonKind, detail: str, name: str = pool.name) -> None:
        found.append(Reason(kind, name, detail))

    if expected.backlog > 0.5:
        say(ReasonKind.BACKLOG, f"{expected.backlog:.1f} replicas to work it off")
    if not pool.in_reach:
        say(ReasonKind.SLO_OUT_OF_REACH, "an idle replica is slower than the objective")
    if part.share < 1:
        say(ReasonKind.RATIO, f"{part.share:.0%} of the need: there is no more for both pools")
    if part.most is not None:
        say(ReasonKind.RATIO, f"{part.most:.2f} replicas are its part of the budget")
    if choice.saves:
        say(ReasonKind.CHEAPER, f"another mix saves {choice.saves:.2f} per hour")
    for member, number in zip(pool.members, choice.numbers, strict=True):
        if not member.is_known:
            continue
        kind, detail = _why(pool, expected, choice, pace, member, number)
        say(kind, detail, member.name)
        if seen := member.seen.unschedulable:
            how = "not counted on" if member.lacking else "not yet given up"
            say(ReasonKind.UNSCHEDULABLE, f"{seen} without a place, {how}", member.name)
        if choice.is_short and number >= member.spec.max_replicas:
            say(ReasonKind.MAX_REPLICAS, f"{number} are all there may be", member.name)
        elif choice.is_short and gpus is not None:
            if pool.gpus(choice.numbers) + member.spec.gpus_per_replica > gpus:
                say(ReasonKind.GPU_BUDGET, f"no room for more in {gpus} GPUs", member.name)
        elif number == member.spec.min_replicas and number > 0:
            left = choice.capacity - member.size
            if left - max(expected.up_to, 0.0) >= -TINY:
                say(ReasonKind.MIN_REPLICAS, f"{number} are kept in any case", member.name)
    return found


def _why(
    pool: Pool, expected: Expectation, choice: Choice, pace: Pace, member: Member, number: int
) -> tuple[ReasonKind, str]:
    before = member.seen.desired
    load = f"load {expected.load:.2f}, need {expected.need:.2f} replicas"
    if number < before and not choice.is_short:
        busy = expected.load / choice.capacity if choice.capacity else 0.0
        detail = f"{load}: {number} in place of {before}, what stays is {busy:.0%} busy"
        if expected.down_to is not None:
            last = f"in the last {pace.scale_down_delay_s:.0f} s"
            detail += f"; at most {expected.down_to:.2f} needed {last}"
        return ReasonKind.ENOUGH, detail
    surplus = pool.capacity([m.counted for m in pool.members]) - member.size
    if number == before and before > 0 and surplus - expected.up_to >= -TINY:
        return ReasonKind.SCALE_DOWN_DELAY, load
    return ReasonKind.DEMAND, load
