"""Service level objectives, and which requests met them all."""

from __future__ import annotations

import re

import numpy as np

from shoal.errors import ConfigError

from .record import RequestRecord

MEASURES = ("ttft", "tpot", "itl", "e2e")
FORM = "for example ttft:200ms,tpot:50ms (measures: ttft, tpot, itl, e2e; units: us, ms, s, m)"
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_OBJECTIVE = re.compile(r"(\w+)\s*[:=]\s*(\d+(?:\.\d+)?)\s*(us|ms|s|m)")


def parse_slo(text: str) -> dict[str, float]:
    """Objectives in seconds by measure. Raises ConfigError with the accepted form."""
    objectives: dict[str, float] = {}
    for part in text.split(","):
        match = _OBJECTIVE.fullmatch(part.strip())
        if match is None or match[1] not in MEASURES:
            raise ConfigError(f"--slo {text!r}: {part.strip()!r} is not an objective; {FORM}")
        if match[1] in objectives:
            raise ConfigError(f"--slo {text!r} names {match[1]} twice")
        objectives[match[1]] = float(match[2]) * UNITS[match[3]]
    return objectives


def meets(record: RequestRecord, slo: dict[str, float]) -> bool:
    """Whether a request succeeded within every objective.

    `itl` holds for a request's 99th percentile gap. A measure that does not exist for a short
    answer (TPOT of one token) is met.
    """
    if record.error is not None:
        return False
    for measure, limit_s in slo.items():
        if measure == "itl":
            gaps = record.itl_s
            value = float(np.quantile(gaps, 0.99)) if gaps.size else None
        else:
            value = {"ttft": record.ttft_s, "tpot": record.tpot_s, "e2e": record.e2e_s}[measure]
        if value is not None and value > limit_s:
            return False
    return True
