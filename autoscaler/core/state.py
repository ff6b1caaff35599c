"""What a scaler remembers of one model between decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .demand import Demand
from .edits import Edits
from .efficiency import Efficiency
from .headroom import Headroom
from .observation import Observation, VariantObservation
from .place import Place
from .spec import Role, ScalingSpec
from .window import MaxWindow
from .work import PromptCosts, TokenCosts

SETTLE_S = 15.0
"""After there were no replicas, or no more could be had: requests that suffered from that say
nothing of headroom."""
COLD_S = 10.0
"""The first requests of a new replica are slow."""
LASTING_S = 600.0
"""A cheaper mix is moved to when it would have been enough for so long."""
SIZE_RATE = 0.0005
"""Weight of one request in the mean lengths."""


@dataclass(slots=True)
class RequestSize:
    """Mean tokens of a request."""

    input_tokens: float = 512.0
    output_tokens: float = 128.0
    num_seen: int = 0

    def observe(self, observation: Observation, finished: int | None) -> None:
        """`finished`: requests that ended in the interval, of those whose tokens were counted."""
        if observation.arrivals and observation.input_tokens is not None:
            mean = observation.input_tokens / observation.arrivals
            self.input_tokens += self._weight(observation.arrivals) * (mean - self.input_tokens)
        if finished and observation.output_tokens:
            mean = observation.output_tokens / finished
            self.output_tokens += self._weight(finished) * (mean - self.output_tokens)
            self.num_seen += finished

    def _weight(self, num_requests: int) -> float:
        """The first requests count in full, later ones move the mean slowly."""
        return max(
            num_requests / (self.num_seen + num_requests), 1 - (1 - SIZE_RATE) ** num_requests
        )


@dataclass(slots=True)
class VariantState:
    """What is learnt of a variant."""

    costs: TokenCosts | PromptCosts
    start_up_s: float
    kv_usage_per_request: float = 0.0
    """Of one replica's cache, of one of its running requests."""
    last: VariantObservation | None = None
    """Its replicas, as they were seen last."""
    place: Place = field(default_factory=Place)
    edits: Edits = field(default_factory=Edits)
    efficiency: Efficiency = field(default_factory=Efficiency)

    def remember(self, seen: VariantObservation) -> None:
        """Its replicas, also where too little is known to learn from them: all that hold GPUs."""
        self.last = VariantObservation(
            name=seen.name, desired=seen.desired, ready=seen.ready, pending=seen.pending,
            unschedulable=seen.unschedulable, draining=seen.draining,
        )  # fmt: skip

    def observe(self, seen: VariantObservation) -> None:
        for seconds in seen.start_up_s:
            # Rather too long than too short: up at once, down slowly.
            if seconds >= self.start_up_s:
                self.start_up_s = seconds
            else:
                self.start_up_s += 0.2 * (seconds - self.start_up_s)
        if seen.ready and not seen.start_up_s and seen.num_running:
            running = seen.num_running / seen.ready
            self.costs.observe(
                input_tokens_per_s=(seen.input_tokens_per_s or 0.0) / seen.ready,
                output_tokens_per_s=(seen.output_tokens_per_s or 0.0) / seen.ready,
                running=running,
                waiting=(seen.num_waiting or 0.0) / seen.ready,
            )
            if seen.kv_usage is not None and running >= 1:
                usage = seen.kv_usage / running
                self.kv_usage_per_request += 0.05 * (usage - self.kv_usage_per_request)


@dataclass(slots=True)
class PoolState:
    """What is learnt of variants that share a load: how much of them together is enough."""

    headroom: Headroom
    needed: MaxWindow
    needed_long: MaxWindow = field(default_factory=lambda: MaxWindow(LASTING_S))
    """What another mix of variants would have to carry."""
    unsettled_until: float = 0.0
    is_lacking: bool = False
    """Whether it could not have what it needed at the last decision."""
    short_since: float | None = None
    """No numbers of replicas have been enough from then on, within bounds, places and budget."""

    @classmethod
    def of(cls, spec: ScalingSpec) -> PoolState:
        return cls(
            headroom=Headroom(spec.slo.attainment), needed=MaxWindow(spec.pace.scale_down_delay_s)
        )

    def settle(self, now: float, seen: Sequence[VariantObservation]) -> bool:
        """Whether how requests fared in the interval tells of what replicas can take."""
        if self.is_lacking or not any(here.ready for here in seen):
            self.unsettled_until = now + SETTLE_S
        elif any(here.start_up_s for here in seen):
            self.unsettled_until = max(self.unsettled_until, now + COLD_S)
        return now >= self.unsettled_until


@dataclass(slots=True)
class ScalerState:
    """One model; made by `of` and changed by `decide` alone."""

    variants: dict[str, VariantState]
    pools: dict[Role, PoolState]
    demand: Demand
    size: RequestSize = field(default_factory=RequestSize)
    last_arrival: float | None = None

    @classmethod
    def of(cls, spec: ScalingSpec) -> ScalerState:
        return cls(
            variants={
                variant.name: VariantState(
                    costs=PromptCosts() if variant.role is Role.PREFILL else TokenCosts(),
                    start_up_s=spec.pace.start_up_s,
                )
                for variant in spec.variants
            },
            pools={variant.role: PoolState.of(spec) for variant in spec.variants},
            demand=Demand(share=spec.forecast_quantile, periods_s=spec.periods_s),
        )
