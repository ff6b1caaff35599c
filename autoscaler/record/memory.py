"""What a process remembers of its models, for people and for metrics. A `Recorder` each."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator

from ..core.spec import ScalingSpec
from ..core.state import ScalerState
from ..policy import ScalingPolicy
from .decision_record import DecisionRecord
from .history import History, attainment, cost_per_hour, point_of

MAX_DECISIONS = 1000
ATTAINMENT_S = 300.0
RATE_S = 60.0
"""Rates are means over so long."""


class ModelMemory:
    """Of one model: its policy, its latest decisions, its history."""

    def __init__(self, policy: ScalingPolicy, *, name: str = "") -> None:
        """`name`: of the policy, where it has one of its own."""
        self.policy = policy
        self.name = name or policy.model
        self.history = History()
        self._records: deque[DecisionRecord] = deque(maxlen=MAX_DECISIONS)
        self._learnt: tuple[ScalingSpec, ScalerState] | None = None

    def before(self, state: ScalerState, now: float) -> None:
        self._learnt = (self.policy.spec, state)

    def learnt(self) -> ScalerState | None:
        """What another loop of this process has learnt that scaled the same: when bounds or pace
        are edited, or a target is another object, nothing begins from nothing."""
        if self._learnt is None or not _learns_the_same(self._learnt[0], self.policy.spec):
            return None
        return self._learnt[1]

    def record(self, record: DecisionRecord) -> None:
        self._records.append(record)
        self.history.add(point_of(record, self.policy.spec))

    @property
    def last(self) -> DecisionRecord | None:
        """The newest decision."""
        return self._records[-1] if self._records else None

    def decisions(self, limit: int) -> Iterator[DecisionRecord]:
        """The newest first."""
        return itertools.islice(reversed(self._records), limit)

    def attainment(self) -> float | None:
        """Share of first tokens in time over the last minutes; None: there were none."""
        return attainment(self._within(ATTAINMENT_S))

    def tokens_per_s(self) -> float | None:
        """Output tokens, over the last minute; None: not known."""
        seen = [r.observation for r in self._within(RATE_S)]
        known = [o for o in seen if o.output_tokens is not None]
        seconds = sum(o.interval_s for o in known)
        return sum(o.output_tokens or 0 for o in known) / seconds if seconds else None

    def tokens_per_cost(self) -> float | None:
        """Output tokens per unit of cost, at the rates of the last minute; None: they are free."""
        tokens, last = self.tokens_per_s(), self.last
        if tokens is None or last is None:
            return None
        cost_per_s = cost_per_hour(last, self.policy.spec) / 3600
        return tokens / cost_per_s if cost_per_s > 0 else None

    def _within(self, seconds: float) -> list[DecisionRecord]:
        """By the clock of the decisions: a wall clock that jumps moves nothing."""
        if self.last is None:
            return []
        since = self.last.now - seconds
        return list(itertools.takewhile(lambda r: r.now > since, reversed(self._records)))


def _learns_the_same(one: ScalingSpec, other: ScalingSpec) -> bool:
    """Whether a state of the one is a state of the other."""
    return (
        one.slo == other.slo
        and (one.forecast_quantile, one.periods_s) == (other.forecast_quantile, other.periods_s)
        and one.pace.scale_down_delay_s == other.pace.scale_down_delay_s
        and [(v.name, v.role, v.relative_capacity) for v in one.variants]
        == [(v.name, v.role, v.relative_capacity) for v in other.variants]
    )


class Memory:
    """All models of a process, by the name of their policy."""

    def __init__(self) -> None:
        self._models: dict[str, ModelMemory] = {}

    def add(self, policy: ScalingPolicy, *, name: str = "") -> ModelMemory:
        """The recorder of a model; under another policy of the same name the past stays."""
        memory = ModelMemory(policy, name=name)
        known = self._models.get(memory.name)
        if known is not None and known.policy.model == policy.model:
            known.policy = policy
            return known
        self._models[memory.name] = memory
        return memory

    def remove(self, name: str) -> None:
        """It is scaled no more."""
        self._models.pop(name, None)

    def __iter__(self) -> Iterator[ModelMemory]:
        return iter(list(self._models.values()))

    def of_model(self, model: str) -> ModelMemory | None:
        """By the model's name, or the policy's."""
        by_policy = self._models.get(model)
        return by_policy or next((m for m in self if m.policy.model == model), None)

    def decisions(self, limit: int) -> list[DecisionRecord]:
        """Of all models, the newest first."""
        merged = [record for memory in self for record in memory.decisions(limit)]
        return sorted(merged, key=lambda record: record.time, reverse=True)[:limit]
