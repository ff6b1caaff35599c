"""A `ScalingPolicy` as people write it: in a file, or as a custom resource of Kubernetes.

Names are Kubernetes': camelCase, durations in seconds. Defaults are the core's.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from shoal.settings.ranges import (
    Count,
    CountOrZero,
    HttpUrl,
    Money,
    Seconds,
    SecondsOrZero,
    Text,
)

from ..core.spec import Pace, ScalingSpec, SloSpec, VariantSpec

API_VERSION: Final = "autoscaling.shoal.dev/v1alpha1"
KIND: Final = "ScalingPolicy"

Share = Annotated[float, Meta(gt=0, lt=1)]
Period = Annotated[float, Meta(ge=120, le=7 * 86400)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9._]{0,251}[A-Za-z0-9])?$")]
ApiVersion = Annotated[
    str, Meta(pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?v[a-z0-9]{1,30}$")
]
"""Both become parts of paths: a slash or two dots in them would lead elsewhere."""
_SLO, _PACE, _VARIANT = SloSpec(), Pace(), VariantSpec()


class _Settings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """A section: a name it does not know is a mistake."""


class SloSettings(_Settings, frozen=True, kw_only=True):
    """The objective: the share of requests that meet both limits."""

    ttft_seconds: Seconds = _SLO.ttft_s
    """To the first token, waiting at the router included."""
    tpot_seconds: Seconds = _SLO.tpot_s
    """For each further token, on average."""
    attainment: Share = _SLO.attainment
    """Share of requests that are to meet it."""


class PaceSettings(_Settings, frozen=True, kw_only=True):
    """How fast the number of replicas may change."""

    scale_down_delay_seconds: SecondsOrZero = _PACE.scale_down_delay_s
    """A replica is given up when it was not needed for so long."""
    max_up_factor: Annotated[float, Meta(gt=1, le=1000)] = _PACE.max_up_factor
    """Of the present number, in one decision; at least `maxUpStep`."""
    max_up_step: Count = _PACE.max_up_step
    """So many more in one decision are always allowed."""
    max_down_share: Annotated[float, Meta(gt=0, le=1)] = _PACE.max_down_share
    """Of the present number, in one decision; at least one."""
    scale_to_zero_after_seconds: SecondsOrZero = _PACE.scale_to_zero_after_s
    """Without a request, if the minimum is 0."""
    start_up_seconds: SecondsOrZero = _PACE.start_up_s
    """How long a replica takes to start, until start-ups have been seen."""
    unschedulable_after_seconds: SecondsOrZero = _PACE.unschedulable_after_s
    """A replica that the cluster has no place for counts as coming for so long: about what a
    cluster takes to add a node. Then other variants take its load."""


class ForecastSettings(_Settings, frozen=True, kw_only=True):
    """What is provided for on top of the expected load."""

    quantile: Share = ScalingSpec().forecast_quantile
    """Share of forecasts whose error is provided for: the price of being ready in time."""
    periods_seconds: Annotated[tuple[Period, ...], Meta(max_length=8)] = ScalingSpec().periods_s
    """At which the load may repeat itself; others are found. Forecasts that do not hold are off."""


class TargetSettings(_Settings, frozen=True, kw_only=True):
    """What has the replicas of a variant: anything with a `/scale`, in the policy's namespace."""

    kind: Text
    """Deployment, LeaderWorkerSet, StatefulSet, InferenceService or a kind of your own."""
    name: Name
    api_version: ApiVersion = "apps/v1"


class VariantSettings(_Settings, frozen=True, kw_only=True):
    """One way to serve the model: a kind of GPU, a precision, spot or not."""

    name: Name = _VARIANT.name
    role: Literal["both", "prefill", "decode"] = "both"
    """Of a model whose prefill and decode are apart: which of them."""
    target: TargetSettings | None = None
    """None: whoever runs the autoscaler knows (processes of this machine, KEDA)."""
    min_replicas: CountOrZero = _VARIANT.min_replicas
    max_replicas: CountOrZero = _VARIANT.max_replicas
    pods_per_replica: Count = _VARIANT.pods_per_replica
    """`size` of a LeaderWorkerSet: a replica is a group of so many pods."""
    gpus_per_pod: CountOrZero = _VARIANT.gpus_per_pod
    cost_per_hour: Money = _VARIANT.cost_per_hour
    """Of one replica, all its pods together, in any currency."""
    relative_capacity: Annotated[float, Meta(gt=0, le=1000)] = _VARIANT.relative_capacity
    """What one replica takes beside the other variants of its role; counts until it is learnt."""
    endpoint_labels: dict[str, str] = {}
    """The router's endpoints of this variant have these labels; empty: all that serve the model."""

    def __post_init__(self) -> None:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"minReplicas {self.min_replicas} is above maxReplicas {self.max_replicas}"
            )


class RouterSettings(_Settings, frozen=True, kw_only=True):
    """Where the router's admin API is: what comes in and what waits is read there."""

    url: HttpUrl
    """Such as http://127.0.0.1:8081."""
    more_urls: tuple[HttpUrl, ...] = ()
    """Further replicas of the router: their numbers add up."""
    key_env: Text | None = None
    """Environment variable of the autoscaler that holds a key of the admin API."""


class PolicySpec(_Settings, frozen=True, kw_only=True):
    """How one model is to be scaled, and what for."""

    model: Text
    """As the router's workers name it."""
    mode: Literal["auto", "advise"] = "auto"
    """advise: decide, record and report; change nothing."""
    interval_seconds: Annotated[float, Meta(ge=0.1, le=300)] = 5.0
    """Between decisions."""
    router: RouterSettings | None = None
    """None: whoever runs the autoscaler says which router (`shoal up`, an option)."""
    slo: SloSettings = SloSettings()
    pace: PaceSettings = PaceSettings()
    forecast: ForecastSettings = ForecastSettings()
    gpu_budget: CountOrZero | None = None
    """GPUs that all variants together may use; none: as many as the maxima say."""
    variants: Annotated[tuple[VariantSettings, ...], Meta(min_length=1)] = (VariantSettings(),)

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names):
            raise ValueError(f"variants need names of their own, got {', '.join(names)}")
        if len(names) > 1 and (bare := [v.name for v in self.variants if not v.endpoint_labels]):
            raise ValueError(
                f"with several variants each needs endpointLabels, {bare[0]!r} has none"
            )


class Metadata(_Settings, frozen=True, kw_only=True):
    """Of the object in Kubernetes; a file needs the name only."""

    name: Name
    namespace: Name = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class PolicyDocument(_Settings, frozen=True, kw_only=True):
    """One document of a policy file."""

    api_version: Literal["autoscaling.shoal.dev/v1alpha1"]
    kind: Literal["ScalingPolicy"]
    metadata: Metadata
    spec: PolicySpec
