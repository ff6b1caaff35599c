"""The load that comes with the simulator for several kinds of GPU."""

from __future__ import annotations

from collections.abc import Callable

from shoal.autoscaler.core.spec import VariantSpec

from .fleet import Slo
from .load import poisson, sine
from .mixed import MixedScenario, SimVariant
from .replica import ReplicaSpec
from .step_cost import StepCost

H100 = StepCost(base_s=0.0064, prompt_token_s=3.2e-5, decode_s=2e-5, kv_token_s=5.2e-8)
"""A model of 8B in bf16: 16 GB of weights at 2.5 TB/s, 16 GFLOP a prompt token at 0.5 PFLOP/s,
128 KB of KV a token."""
L40S = StepCost(base_s=0.025, prompt_token_s=9e-5, decode_s=5e-5, kv_token_s=2e-7)
"""The same at 0.65 TB/s and 0.18 PFLOP/s."""
SPOT_GONE_S = (2400.0, 3300.0)
"""For a quarter of an hour there is no spot capacity."""


def _mixed() -> MixedScenario:
    """Two waves in two hours, H100 on demand and L40S on the spot market, which is gone for a while
    at a peak. Prices are an assumption: 4.00 and 0.80 an hour."""
    requests = poisson(sine(30, 0.7, 3600), duration_s=7200.0, max_rate=51)
    gone, back = SPOT_GONE_S
    return MixedScenario(
        name="mixed",
        requests=requests,
        slo=Slo(ttft_s=2.0, tpot_s=0.1),
        first={"h100": 3},
        variants=(
            SimVariant(
                spec=VariantSpec(
                    name="h100", min_replicas=0, max_replicas=32, cost_per_hour=4.0
                ),
                replica=ReplicaSpec(cost=H100, kv_tokens=420_000),
                speed=1.0,
            ),
            SimVariant(
                spec=VariantSpec(
                    name="l40s-spot", min_replicas=0, max_replicas=64, cost_per_hour=0.8,
                    relative_capacity=0.25,
                ),
                replica=ReplicaSpec(cost=L40S, kv_tokens=200_000),
                speed=0.27,
                places=((gone, 0), (back, None)),
            ),
        ),
    )  # fmt: skip


MIXED: dict[str, Callable[[], MixedScenario]] = {"mixed": _mixed}
