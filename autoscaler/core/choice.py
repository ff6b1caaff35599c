"""Numbers of replicas for a pool: what to aim for, and how far to go there now.

- *Short* of what is needed: the cheapest additions, at once. Nothing is given up for them, unless
  the GPU budget has been too small for long and would do more otherwise.
- *Enough*: the cheapest of what there is that was enough for as long as the scale-down delay. So a
  replica goes only when those that stay meet the objective in the model.
- *Cheaper otherwise*: another mix that would have been enough for `LASTING_S` is moved to, if it
  saves more than the start of its replicas costs. What it replaces stays until that is ready.
- Replicas without a place are not counted; one of them stays asked for, to find out when there is a
  place again, and all of them where nothing can replace them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .expectation import Expectation
from .mix import TINY, cheapest
from .place import MANY
from .pools import Pool
from .spec import Pace
from .state import LASTING_S, PoolState

LEAST_NEED = 1e-3
"""Of a model that is in use: one replica, whichever costs least."""
LEAST_SAVING = 0.05
"""Of the cost, or of capacity under a budget: less is no reason to move."""
PAYS_WITHIN_S = 1800.0
"""A move must pay for its start-ups within so long, for nobody knows for how long it pays."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a pool may have, where it needs another beside it (`together.py`)."""

    share: float = 1.0
    """Of its need: more is of no use at present."""
    most: float | None = None
    """Capacity beyond which its replicas serve nobody, while another pool lacks their GPUs."""


ALL = Part()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    numbers: tuple[int, ...]
    """Of each of the pool's variants."""
    capacity: float
    """Of those that can be counted on."""
    is_short: bool
    """Whether that is less than needed."""
    saves: float
    """Per hour, by moving to another mix."""


def choose(
    pool: Pool, expected: Expectation, state: PoolState, pace: Pace, now: float, *,
    gpus: int | None, part: Part = ALL,
) -> Choice:  # fmt: skip
    """`gpus`: that this pool may have."""
    up_to = max(expected.up_to * part.share, LEAST_NEED)
    keep = max(expected.down_to or 0.0, up_to)
    if part.most is not None:
        keep = min(keep, max(part.most, LEAST_NEED))
    lasting = state.needed_long.add(now, keep)
    may_go = expected.down_to is not None and all(
        now >= m.state.edits.kept_until for m in pool.members
    )
    counted = [m.counted for m in pool.members]
    aim, saves = counted, 0.0
    if up_to - pool.capacity(counted) > TINY:
        aim, keep = _more(pool, up_to, keep, state, pace, now, gpus=gpus)
    else:
        state.short_since = None
        if part.most is not None or may_go:
            aim = _fewest(pool, counted, keep)
        if may_go and state.needed_long.seconds(now) >= LASTING_S:
            other = _another(pool, counted, lasting, gpus=gpus)
            if _fits(pool, other, counted, lasting, gpus=gpus):
                saves = _saving(pool, other, instead=aim, counted=counted, pace=pace)
            aim = _moved(pool, aim, other, counted) if saves else aim
    numbers = _on_the_way(pool, aim, keep)
    if any(m.room < MANY for m in pool.members):
        numbers = _with_standing_orders(pool, numbers, up_to, keep if may_go else None, gpus)
    return Choice(
        numbers=tuple(numbers), capacity=pool.capacity(aim),
        is_short=up_to - pool.capacity(aim) > TINY, saves=saves,
    )  # fmt: skip


def _more(
    pool: Pool, need: float, keep: float, state: PoolState, pace: Pace, now: float, *,
    gpus: int | None,
) -> tuple[list[int], float]:  # fmt: skip
    """What to aim for when there is too little, and the ready capacity that must stay for now."""
    aim = grow(pool, need, gpus=gpus)
    if need - pool.capacity(aim) <= TINY:
        state.short_since = None
        return aim, keep
    state.short_since = now if state.short_since is None else state.short_since
    lasts = now - state.short_since >= pace.scale_down_delay_s
    better = _in_its_place(pool, aim, need, gpus=gpus) if lasts else None
    return (better, 0.0) if better else (aim, keep)


def grow(pool: Pool, need: float, *, gpus: int | None) -> list[int]:
    """The cheapest additions to what can be counted on."""
    return cheapest([m.option(m.counted, m.most) for m in pool.members], need, gpus=gpus)


def _in_its_place(
    pool: Pool, aim: Sequence[int], need: float, *, gpus: int | None
) -> list[int] | None:
    """The best that the budget is enough for, if it is much better: small replicas may hold GPUs
    that large ones would make more of."""
    if gpus is None or len(pool.members) == 1:
        return None
    options = [m.option(min(m.spec.min_replicas, m.counted), m.most) for m in pool.members]
    anew = cheapest(options, need, gpus=gpus)
    return anew if pool.capacity(anew) > pool.capacity(aim) * (1 + LEAST_SAVING) else None


def _fewest(pool: Pool, counted: Sequence[int], need: float) -> list[int]:
    """The cheapest of what there is."""
    return cheapest(
        [
            m.option(min(m.spec.min_replicas, n), n)
            for m, n in zip(pool.members, counted, strict=True)
        ],
        need,
    )


def _another(pool: Pool, counted: Sequence[int], need: float, *, gpus: int | None) -> list[int]:
    """The cheapest of all mixes."""
    return cheapest(
        [
            m.option(min(m.spec.min_replicas, n), m.spec.max_replicas if m.room else n)
            for m, n in zip(pool.members, counted, strict=True)
        ],
        need,
        gpus=gpus,
    )


def _moved(pool: Pool, aim: Sequence[int], other: list[int], counted: Sequence[int]) -> list[int]:
    """The other mix; but if that rests on a variant that is not proven, one replica of it is tried
    first, on top of what there is."""
    rows = list(zip(pool.members, aim, other, counted, strict=True))
    if all(m.is_proven or instead <= there for m, _, instead, there in rows):
        return other
    return [
        n if m.is_proven else max(n, min(instead, there + 1 if m.is_learnt else max(there, 1)))
        for m, n, instead, there in rows
    ]


def _fits(
    pool: Pool, other: Sequence[int], counted: Sequence[int], need: float, *, gpus: int | None
) -> bool:
    """Whether it is enough, with room for both until the new replicas are ready."""
    both = [max(pair) for pair in zip(other, counted, strict=True)]
    return need - pool.capacity(other) <= TINY and (gpus is None or pool.gpus(both) <= gpus)


def _saving(
    pool: Pool, other: Sequence[int], *, instead: Sequence[int], counted: Sequence[int], pace: Pace
) -> float:
    """Per hour; 0 where it is too little for the price of the move.

    Until the new replicas are ready the old ones are paid for too.
    """
    saves = pool.cost(instead) - pool.cost(other)
    overlap = sum(
        max(n - present, 0) * m.spec.cost_per_hour
        * (m.state.start_up_s + pace.scale_down_delay_s)
        for n, present, m in zip(other, counted, pool.members, strict=True)
    )  # fmt: skip
    pays = saves > LEAST_SAVING * pool.cost(instead) and saves * PAYS_WITHIN_S > overlap
    return saves if pays else 0.0


def _on_the_way(pool: Pool, aim: Sequence[int], keep: float) -> list[int]:
    """The aim, and what is ready beyond it for as long as what is to replace it is not."""
    ready = [min(m.counted, m.seen.ready) for m in pool.members]
    kept = cheapest(
        [m.option(min(n, r), r) for m, n, r in zip(pool.members, aim, ready, strict=True)],
        min(keep, pool.capacity(ready)),
    )
    return [max(pair) for pair in zip(aim, kept, strict=True)]


def _with_standing_orders(
    pool: Pool, numbers: Sequence[int], up_to: float, keep: float | None, gpus: int | None
) -> list[int]:
    """On top, what is asked for although there is no place for it at present.

    As much as nothing else can replace, and one in any case where there is something else.
    """
    asked = [m.seen.desired for m in pool.members]
    is_short = up_to - pool.capacity(numbers) > TINY
    need = up_to if is_short else pool.capacity(asked) if keep is None else keep
    options = []
    for member, number, before in zip(pool.members, numbers, asked, strict=True):
        most = number
        if member.room < MANY:
            most = member.spec.max_replicas if is_short else max(before, number)
        options.append(member.option(number, most))
    standing = cheapest(options, need, gpus=gpus)
    for index, member in enumerate(pool.members):
        if len(pool.members) > 1 and member.lacking and standing[index] == numbers[index]:
            probe = [n + (i == index) for i, n in enumerate(standing)]
            if gpus is None or pool.gpus(probe) <= gpus:
                standing = probe
    return [
        min(n, max(m.spec.max_replicas, before))
        for n, m, before in zip(standing, pool.members, numbers, strict=True)
    ]
