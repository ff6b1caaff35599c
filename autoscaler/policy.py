"""A scaling policy: one model, how it is to be scaled, and what for.

The file format and the Kubernetes `ScalingPolicy` (`settings/`) are read into this.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from .core.spec import ScalingSpec


class Mode(enum.StrEnum):
    AUTO = "auto"
    ADVISE = "advise"
    """Decide, record and report; change nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPolicy:
    """What `loop.py` works from; targets belong to the platform and are made from the same file."""

    model: str
    """As the router's workers name it: its aliases at the router are one demand with it."""
    spec: ScalingSpec = field(default_factory=ScalingSpec)
    mode: Mode = Mode.AUTO
    interval_s: float = 5.0

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("model must not be empty")
        if not 0.1 <= self.interval_s <= 300:
            raise ValueError(f"interval_s must be between 0.1 and 300, got {self.interval_s}")
