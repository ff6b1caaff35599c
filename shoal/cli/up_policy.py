"""The scaling policy of `shoal up`: a file, if there is one, with options over it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from shoal.autoscaler.core.spec import Pace, ScalingSpec, VariantSpec
from shoal.autoscaler.policy import ScalingPolicy
from shoal.autoscaler.settings.load import read_policies
from shoal.errors import ConfigError

VARIANT = "local"
INTERVAL_S = 2.0
START_UP_S = {"cpu": 5.0, "cuda": 60.0}
"""Until start-ups have been seen."""
_T = TypeVar("_T")


def base_policy(file: Path | None, *, device: str) -> ScalingPolicy:
    """Of the file, else what suits this machine; its model is not known yet. Raises ConfigError."""
    if file is None:
        return ScalingPolicy(
            model="?",
            spec=ScalingSpec(
                pace=Pace(start_up_s=START_UP_S[device]), variants=(VariantSpec(name=VARIANT),)
            ),
            interval_s=INTERVAL_S,
        )
    policies = read_policies(file)
    if len(policies) != 1:
        raise ConfigError(f"--policy {file} has {len(policies)} policies; one model has one")
    policy = policies[0].policy
    if len(policy.spec.variants) != 1:
        raise ConfigError(f"--policy {file}: workers of this machine are one variant")
    return policy


def policy_for(
    base: ScalingPolicy,
    *,
    model: str,
    min_replicas: int,
    max_replicas: int,
    gpus_per_worker: int,
    interval_s: float | None,
    ttft_s: float | None,
    tpot_s: float | None,
    scale_to_zero_after_s: float | None,
    scale_down_delay_s: float | None,
) -> ScalingPolicy:
    """`base` with what the command line says; None is what it does not say. Raises ConfigError."""
    spec = base.spec
    try:
        variant = replace(
            spec.variants[0],
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            pods_per_replica=1,
            gpus_per_pod=gpus_per_worker,
        )
        spec = replace(
            spec,
            slo=_with(spec.slo, ttft_s=ttft_s, tpot_s=tpot_s),
            pace=_with(
                spec.pace,
                scale_to_zero_after_s=scale_to_zero_after_s,
                scale_down_delay_s=scale_down_delay_s,
            ),
            variants=(variant,),
        )
        return _with(replace(base, model=model, spec=spec), interval_s=interval_s)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _with(value: _T, **given: Any) -> _T:
    told = {name: number for name, number in given.items() if number is not None}
    return replace(value, **told)  # type: ignore[type-var]
