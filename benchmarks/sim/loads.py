"""The loads that come with the simulator, and those of trace files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shoal.benchmarks.workload.traces.detect import read_trace

from .load import flash_crowd, of_rows, poisson, sine, steps
from .request import SimRequest
from .simulate import Scenario

HOUR_S = 3600.0


def _sine() -> list[SimRequest]:
    return poisson(sine(20, 0.8, 1800), duration_s=HOUR_S, max_rate=36)


def _steps() -> list[SimRequest]:
    levels = [(0.0, 8.0), (900.0, 20.0), (1800.0, 12.0), (2700.0, 28.0)]
    return poisson(steps(levels), duration_s=HOUR_S, max_rate=28)


def _flash() -> list[SimRequest]:
    rate = flash_crowd(8, 40, at_s=1200, rise_s=300, decay_s=300)
    return poisson(rate, duration_s=HOUR_S, max_rate=40)


SYNTHETIC: dict[str, Callable[[], list[SimRequest]]] = {
    "sine": _sine,
    "steps": _steps,
    "flash": _flash,
}
"""An hour each: two slow waves; levels that change from one second to the next; a crowd that comes
within five minutes."""


def synthetic(name: str) -> Scenario:
    return Scenario(name=name, requests=SYNTHETIC[name]())


def of_trace(path: Path, *, copies: int = 1, time_scale: float = 1.0) -> Scenario:
    """A trace of a format that `shoal bench` reads. Raises ConfigError for a bad file."""
    rows = read_trace(path, "auto", fallback=(None, None), seed=0)
    requests = of_rows(rows, copies=copies, time_scale=time_scale)
    return Scenario(name=path.stem, requests=requests)
