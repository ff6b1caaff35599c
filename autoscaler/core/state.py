"""What a scaler remembers of one model between decisions."""

from __future__ import annotations

from dataclasses import dataclass, field

from .arrivals import Arrivals
from .caution import Caution
from .edits import Edits
from .forecast import MEMORY_S, ForecastErrors
from .observation import Observation, VariantObservation
from .place import Place
from .spec import Role, ScalingSpec
from .staffing import Staffing, headroom
from .window import MaxWindow
from .work import PromptCosts, TokenCosts

SETTLE_S = 15.0
"""After a shortage: requests that suffered from it say nothing of what is enough."""
COLD_S = 10.0
"""The first requests of a new replica are slow."""
LASTING_S = 600.0
"""A cheaper mix is moved to when it would have been enough for so long."""
SIZE_RATE = 0.002
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

    def observe(self, seen: VariantObservation) -> None:
        for seconds in seen.start_up_s:
            # Rather too long than too short: up at once, down slowly.
            if seconds >= self.start_up_s:
                self.start_up_s = seconds
            else:
                self.start_up_s += 0.2 * (seconds - self.start_up_s)
        self.last = VariantObservation(name=seen.name, desired=seen.desired, ready=seen.ready)
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

    staffing: Staffing
    caution: Caution
    needed: MaxWindow
    needed_long: MaxWindow = field(default_factory=lambda: MaxWindow(LASTING_S))
    """What another mix of variants would have to carry."""
    errors: ForecastErrors = field(default_factory=ForecastErrors)
    unsettled_until: float = 0.0
    short_since: float | None = None
    """No numbers of replicas have been enough from then on, within bounds, places and budget."""

    @classmethod
    def of(cls, spec: ScalingSpec) -> PoolState:
        return cls(
            staffing=Staffing(spec.slo.attainment),
            caution=Caution(spec.slo.attainment),
            needed=MaxWindow(spec.pace.scale_down_delay_s),
        )

    def learn(
        self, now: float, *, interval_s: float, ready: float, load: float, is_short: bool,
        has_started: bool, num_requests: int | None, num_in_time: int | None,
    ) -> None:  # fmt: skip
        """Book how requests fared at the present headroom, unless a shortage shows in them."""
        if num_requests is not None and num_in_time is not None:
            self.caution.observe(
                now, interval_s=interval_s, num_requests=num_requests, num_in_time=num_in_time
            )
        if is_short:
            self.unsettled_until = max(self.unsettled_until, now + SETTLE_S)
        elif has_started:
            self.unsettled_until = max(self.unsettled_until, now + COLD_S)
        if now >= self.unsettled_until and num_requests and num_in_time is not None:
            self.staffing.observe(
                headroom(ready, load), num_requests=num_requests, num_in_time=num_in_time,
                interval_s=interval_s,
            )  # fmt: skip


@dataclass(slots=True)
class ScalerState:
    """One model; made by `of` and changed by `decide` alone."""

    variants: dict[str, VariantState]
    pools: dict[Role, PoolState]
    arrivals: Arrivals = field(default_factory=Arrivals)
    size: RequestSize = field(default_factory=RequestSize)
    highest: MaxWindow = field(default_factory=lambda: MaxWindow(MEMORY_S))
    """The most requests per second that came within the last hour."""
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
        )
