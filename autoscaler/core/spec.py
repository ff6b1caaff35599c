"""What an operator asks for: bounds, the objective, and how fast to move."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class SloSpec:
    """Service level objective: the share of requests that meet both limits."""

    ttft_s: float = 1.0
    tpot_s: float = 0.05
    attainment: float = 0.99

    def __post_init__(self) -> None:
        for name in ("ttft_s", "tpot_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"slo.{name} must be positive, got {getattr(self, name)}")
        if not 0 < self.attainment < 1:
            raise ValueError(f"slo.attainment must be between 0 and 1, got {self.attainment}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast the number of replicas may change."""

    scale_down_delay_s: float = 60.0
    """A replica is given up when it was not needed for so long."""
    max_up_factor: float = 4.0
    """Of the present number, in one decision; at least `max_up_step`."""
    max_up_step: int = 4
    max_down_share: float = 0.5
    """Of the present number, in one decision; at least one."""
    scale_to_zero_after_s: float = 300.0
    """Without a request, if the minimum is 0."""
    start_up_s: float = 60.0
    """Until start-ups have been seen."""
    unschedulable_after_s: float = 30.0
    """A replica that the cluster has no place for counts as coming for so long: about what a
    cluster takes to add a node, if it does. Then others take its load."""

    def __post_init__(self) -> None:
        if self.max_up_factor <= 1 or self.max_up_step < 1:
            raise ValueError("pace.max_up_factor must be above 1 and max_up_step at least 1")
        if not 0 < self.max_down_share <= 1:
            raise ValueError(f"pace.max_down_share must be in (0, 1], got {self.max_down_share}")
        if self.unschedulable_after_s < 0:
            raise ValueError(
                f"pace.unschedulable_after_s must not be negative, got {self.unschedulable_after_s}"
            )


class Role(enum.StrEnum):
    """What a replica does of a request."""

    BOTH = "both"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantSpec:
    """One way to serve the model: a kind of GPU, a precision, spot or not."""

    name: str = "default"
    role: Role = Role.BOTH
    min_replicas: int = 0
    max_replicas: int = 8
    pods_per_replica: int = 1
    """`size` of a LeaderWorkerSet: a replica is a group of so many pods."""
    gpus_per_pod: int = 1
    cost_per_hour: float = 1.0
    """Of one replica, all its pods together, in any currency."""
    relative_capacity: float = 1.0
    """What one replica takes, beside the other variants of its role; counts until it is learnt."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_replicas <= self.max_replicas:
            raise ValueError(
                f"variant {self.name!r}: min_replicas {self.min_replicas} and max_replicas"
                f" {self.max_replicas} must be 0 <= min <= max"
            )
        if self.pods_per_replica < 1 or self.gpus_per_pod < 0 or self.cost_per_hour < 0:
            raise ValueError(f"variant {self.name!r}: pods, GPUs and cost must not be negative")
        if self.relative_capacity <= 0:
            raise ValueError(f"variant {self.name!r}: relative_capacity must be positive")

    @property
    def gpus_per_replica(self) -> int:
        return self.pods_per_replica * self.gpus_per_pod


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingSpec:
    """One model."""

    slo: SloSpec = field(default_factory=SloSpec)
    pace: Pace = field(default_factory=Pace)
    variants: tuple[VariantSpec, ...] = (VariantSpec(),)
    forecast_quantile: float = 0.9
    """Share of forecasts whose error is provided for: the price of being ready in time."""
    periods_s: tuple[float, ...] = (3600.0, 86400.0)
    """At which the load may repeat itself; others are found. Forecasts that do not hold are off."""
    gpu_budget: int | None = None
    """GPUs that all variants together may use; None: as many as the maxima say."""

    def __post_init__(self) -> None:
        if any(period <= 0 for period in self.periods_s):
            raise ValueError(f"periods_s must be positive, got {self.periods_s}")
        names = [variant.name for variant in self.variants]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"variants need names of their own, got {names}")
        roles = {variant.role for variant in self.variants}
        if roles not in ({Role.BOTH}, {Role.PREFILL, Role.DECODE}):
            raise ValueError(
                f"variants must all have the role both, or some prefill and some decode, got"
                f" {', '.join(sorted(roles))}"
            )
