"""Which workers a number of replicas means: pure, from the states there are.

Taking back one that still drains is sooner than a start. Those given up are the ones that serve
least: the backing off, the starting, then the youngest, whose caches hold least.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .lifecycle import Lifecycle, WorkerState

_GIVEN_UP_FIRST = {WorkerState.BACKING_OFF: 0, WorkerState.STARTING: 1, WorkerState.READY: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Changes, by slot."""

    recall: tuple[int, ...] = ()
    release: tuple[int, ...] = ()
    begin: tuple[int, ...] = ()


def plan(workers: Mapping[int, Lifecycle], desired: int, *, num_slots: int) -> Plan:
    """From workers by slot to so many wanted ones.

    A slot (with its GPUs) is free when its worker has stopped: with all of them taken, by workers
    that drain for example, a new one comes later.
    """
    wanted = [slot for slot, worker in workers.items() if worker.is_wanted]
    if len(wanted) > desired:
        by_worth = sorted(
            wanted, key=lambda slot: (_GIVEN_UP_FIRST[workers[slot].state], -workers[slot].since)
        )
        return Plan(release=tuple(by_worth[: len(wanted) - desired]))
    missing = desired - len(wanted)
    draining = [slot for slot, w in workers.items() if w.state is WorkerState.DRAINING]
    draining.sort(key=lambda slot: -workers[slot].since)
    recall = draining[:missing]
    free = [slot for slot in range(num_slots) if slot not in workers]
    return Plan(recall=tuple(recall), begin=tuple(free[: missing - len(recall)]))
