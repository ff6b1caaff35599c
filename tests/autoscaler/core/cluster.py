"""Variants of one model as `decide` sees them: replicas that start, find a place or none, and are
as fast as their costs say. Steady requests, spread by what each replica can take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shoal.autoscaler.core.decision import Decision, ReasonKind
from shoal.autoscaler.core.observation import Observation, VariantObservation
from shoal.autoscaler.core.scaler import decide
from shoal.autoscaler.core.spec import Role, ScalingSpec
from shoal.autoscaler.core.state import ScalerState

INTERVAL_S = 5.0
IN, OUT = 1000, 200
"""Tokens of a request."""


@dataclass(kw_only=True)
class Machines:
    """One variant's: by default 0.23 s of a replica for a request, so 3.5 of them a second at a
    load of 0.8, where a token takes 0.1 s."""

    base_s: float = 0.02
    in_s: float = 1.5e-4
    out_s: float = 4e-4
    start_up_s: float = 30.0
    places: int = 1000
    """Replicas that find one."""
    desired: int = 0
    ready: int = 0
    starting: list[float] = field(default_factory=list)
    """When each of those that have a place becomes ready."""
    unplaced: int = 0
    started: int = 0
    """In the last interval."""

    def tick(self, now: float) -> None:
        self.started = sum(at <= now for at in self.starting)
        self.starting = [at for at in self.starting if at > now]
        self.ready += self.started
        self._place(now)

    def scale(self, desired: int, now: float) -> None:
        self.desired = desired
        surplus = self.ready + len(self.starting) + self.unplaced - desired
        gone = min(max(surplus, 0), self.unplaced)
        self.unplaced, surplus = self.unplaced - gone, surplus - gone
        while surplus > 0 and self.starting:
            self.starting.pop()
            surplus -= 1
        self.ready -= max(surplus, 0)
        self.unplaced += max(-surplus, 0)
        self._place(now)

    def _place(self, now: float) -> None:
        while self.unplaced and self.ready + len(self.starting) < self.places:
            self.unplaced -= 1
            self.starting.append(now + self.start_up_s)

    def seconds_of(self, role: Role, output_tokens: int) -> float:
        """Of a replica, for one request."""
        inputs = 0 if role is Role.DECODE else IN
        outputs = 0 if role is Role.PREFILL else output_tokens
        return self.in_s * inputs + self.out_s * outputs


class Cluster:
    """Does what it is told at once, but for start-ups; and tells what came of it."""

    def __init__(self, spec: ScalingSpec, machines: Mapping[str, Machines]) -> None:
        self.spec, self.machines = spec, dict(machines)
        self.state = ScalerState.of(spec)
        self.now = 0.0
        self.output_tokens = OUT
        for machine in self.machines.values():
            machine.desired = machine.desired or machine.ready

    def step(self, rate: float, **changes: Any) -> Decision:
        """One interval at so many requests per second; `changes` to what is observed."""
        self.now += INTERVAL_S
        for machine in self.machines.values():
            machine.tick(self.now)
        observation = replace(self.observe(rate), **changes)
        decision = decide(self.spec, observation, self.state, self.now)
        for name, number in decision.desired.items():
            self.machines[name].scale(number, self.now)
        return decision

    def run(self, rate: float, seconds: float) -> list[tuple[int, ...]]:
        """What was asked for, step by step, in the order of the variants."""
        names = [variant.name for variant in self.spec.variants]
        steps = [self.step(rate) for _ in range(int(seconds / INTERVAL_S))]
        return [tuple(step.desired[name] for name in names) for step in steps]

    def observe(self, rate: float) -> Observation:
        arrivals = round(rate * INTERVAL_S)
        variants = tuple(self._variant(v.name, v.role, rate) for v in self.spec.variants)
        return Observation(
            interval_s=INTERVAL_S, arrivals=arrivals, input_tokens=arrivals * IN,
            output_tokens=round(sum(v.output_tokens_per_s or 0.0 for v in variants) * INTERVAL_S),
            queued=0, held=0, variants=variants,
        )  # fmt: skip

    def _variant(self, name: str, role: Role, rate: float) -> VariantObservation:
        machine, out = self.machines[name], self.output_tokens
        total = sum(
            m.ready / m.seconds_of(role, out)
            for v in self.spec.variants
            if v.role is role and (m := self.machines[v.name])
        )
        each = min(rate / total, 0.95) if total else 0.0
        served = each * machine.ready / machine.seconds_of(role, out)
        tpot = machine.base_s / (1 - each)
        running = machine.ready * each / (1 - each) if role is Role.PREFILL else served * out * tpot
        done = round(served * INTERVAL_S)
        return VariantObservation(
            name=name, desired=machine.desired, ready=machine.ready,
            pending=len(machine.starting) + machine.unplaced, unschedulable=machine.unplaced,
            num_running=running, num_waiting=0.0,
            input_tokens_per_s=0.0 if role is Role.DECODE else served * IN,
            output_tokens_per_s=0.0 if role is Role.PREFILL else served * out,
            tpot_s=None if role is Role.PREFILL or not served else tpot,
            num_first_tokens=done, num_in_time=done, num_finished=done, num_tpot_in_time=done,
            start_up_s=(machine.start_up_s,) * machine.started,
        )  # fmt: skip


def kinds(decision: Decision) -> set[ReasonKind]:
    return {reason.kind for reason in decision.reasons}


def reason(decision: Decision, kind: ReasonKind, variant: str) -> str:
    """Its words; fails where it was not given."""
    [detail] = [r.detail for r in decision.reasons if r.kind is kind and r.variant == variant]
    return detail
