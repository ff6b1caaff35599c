"""From a file, or an object of Kubernetes, to policies that were checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from shoal.errors import ConfigError
from shoal.settings.explain import explain
from shoal.settings.yaml_file import parse_yaml, read_yaml_documents

from ..core.spec import Pace, Role, ScalingSpec, SloSpec, VariantSpec
from ..policy import Mode, ScalingPolicy
from .documents import (
    PolicyDocument,
    PolicySpec,
    RouterSettings,
    TargetSettings,
    VariantSettings,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPolicy:
    """A policy with all that belongs to it and is not for the core."""

    name: str
    namespace: str
    policy: ScalingPolicy
    router: RouterSettings | None
    targets: Mapping[str, TargetSettings]
    """By variant; one without a target is left out."""
    endpoint_labels: Mapping[str, Mapping[str, str]]
    """By variant."""

    @property
    def key(self) -> str:
        """NAMESPACE/NAME, as Kubernetes tools write it."""
        return f"{self.namespace}/{self.name}"


def read_policies(path: Path) -> list[LoadedPolicy]:
    """All documents of a file.

    Raises ConfigError: the file, the document where there are several, the setting, what is wrong
    with it and what is allowed.
    """
    documents = read_yaml_documents(path)
    if not documents:
        raise ConfigError(f"{path}: has no ScalingPolicy")
    loaded: dict[str, LoadedPolicy] = {}
    for number, document in enumerate(documents, start=1):
        where = f"{path}, document {number}" if len(documents) > 1 else str(path)
        try:
            found = msgspec.convert(document, PolicyDocument)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{where}: {explain(error, PolicyDocument)}") from None
        try:
            policy = of_spec(
                found.spec, name=found.metadata.name, namespace=found.metadata.namespace
            )
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        if policy.key in loaded:
            raise ConfigError(f"{where}: metadata.name: {policy.key!r} is there twice")
        loaded[policy.key] = policy
    return list(loaded.values())


def parse_spec(text: str, where: str) -> PolicySpec:
    """A `spec` alone, as YAML in a string. Raises ConfigError."""
    return decode_spec(parse_yaml(text, where))


def decode_spec(spec: Any) -> PolicySpec:
    """The `spec` of a custom resource, as JSON has it. Raises ConfigError."""
    try:
        return msgspec.convert(spec, PolicySpec)
    except msgspec.ValidationError as error:
        raise ConfigError(f"spec: {explain(error, PolicySpec)}") from None


def of_spec(spec: PolicySpec, *, name: str, namespace: str = "default") -> LoadedPolicy:
    """What the loop works from. Raises ConfigError for what fits no model as a whole."""
    try:
        scaling = _scaling_spec(spec)
    except ValueError as error:
        raise ConfigError(f"spec: {error}") from None
    return LoadedPolicy(
        name=name,
        namespace=namespace,
        policy=ScalingPolicy(
            model=spec.model,
            spec=scaling,
            mode=Mode(spec.mode),
            interval_s=spec.interval_seconds,
        ),
        router=spec.router,
        targets={v.name: v.target for v in spec.variants if v.target is not None},
        endpoint_labels={v.name: v.endpoint_labels for v in spec.variants},
    )


def _scaling_spec(spec: PolicySpec) -> ScalingSpec:
    slo, pace = spec.slo, spec.pace
    return ScalingSpec(
        slo=SloSpec(ttft_s=slo.ttft_seconds, tpot_s=slo.tpot_seconds, attainment=slo.attainment),
        pace=Pace(
            scale_down_delay_s=pace.scale_down_delay_seconds,
            max_up_factor=pace.max_up_factor,
            max_up_step=pace.max_up_step,
            max_down_share=pace.max_down_share,
            scale_to_zero_after_s=pace.scale_to_zero_after_seconds,
            start_up_s=pace.start_up_seconds,
            unschedulable_after_s=pace.unschedulable_after_seconds,
        ),
        variants=tuple(map(_variant_spec, spec.variants)),
        forecast_quantile=spec.forecast.quantile,
        periods_s=spec.forecast.periods_seconds,
        gpu_budget=spec.gpu_budget,
    )


def _variant_spec(variant: VariantSettings) -> VariantSpec:
    return VariantSpec(
        name=variant.name,
        role=Role(variant.role),
        min_replicas=variant.min_replicas,
        max_replicas=variant.max_replicas,
        pods_per_replica=variant.pods_per_replica,
        gpus_per_pod=variant.gpus_per_pod,
        cost_per_hour=variant.cost_per_hour,
        relative_capacity=variant.relative_capacity,
    )
