"""What an autoscaler says, as the console passes it on. Pure.

The shape is that of its admin API (docs/autoscaling.md). It is not looked into, but for objectives,
prices, and what makes one decision like another: an autoscaler may be of another version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec


class ScalingView(msgspec.Struct, kw_only=True):
    """All of it, or why not."""

    models: list[dict[str, Any]] = []
    decisions: list[dict[str, Any]] = []
    """The newest first. A run of decisions that changed nothing, for the same reasons, is one: the
    newest, with `since`, the time of the oldest."""
    history: list[dict[str, Any]] = []
    """Of one model, the oldest first."""
    history_of: str = ""
    error: str = ""

    def ttft_target_s(self, model: str) -> float | None:
        """The objective that a model's policy names."""
        for found in self.models:
            slo = found.get("slo")
            if found.get("model") == model and isinstance(slo, dict):
                target = slo.get("ttft_s")
                return float(target) if isinstance(target, int | float) and target > 0 else None
        return None

    def cost_per_hour(self, model: str) -> float:
        """Of the replicas of a model, or of all (""), as the policies price them."""
        return sum(
            _number(variant, "cost_per_hour")
            * sum(_number(variant, name) for name in ("ready", "pending", "draining"))
            for found in self.models
            if model in ("", found.get("model"))
            for variant in dicts(found, "variants")
        )


def runs(decisions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Joins what says the same again and again, model by model; the newest first, as they came."""
    found: list[dict[str, Any]] = []
    latest: dict[Any, dict[str, Any]] = {}
    for decision in decisions:
        model, time = decision.get("model"), decision.get("time")
        run = latest.get(model)
        if run is not None and _is_quiet(run) and _is_quiet(decision) and _same(run, decision):
            run["since"] = time
        else:
            run = latest[model] = {**decision, "since": time}
            found.append(run)
    return found


def _is_quiet(decision: Mapping[str, Any]) -> bool:
    return bool(decision.get("before") == decision.get("desired"))


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(name) == other.get(name) for name in ("desired", "valid")) and (
        [reason.get("kind") for reason in dicts(one, "reasons")]
        == [reason.get("kind") for reason in dicts(other, "reasons")]
    )


def _number(body: Mapping[str, Any], name: str) -> float:
    found = body.get(name)
    return float(found) if isinstance(found, int | float) else 0.0


def dicts(body: Any, name: str) -> list[dict[str, Any]]:
    found = body.get(name) if isinstance(body, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
