"""The loads that come with the simulator, and those of trace files."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

from shoal.benchmarks.workload.traces.detect import read_trace

from .load import bursts, clients, flash_crowd, of_rows, poisson, sine, steps
from .request import SimRequest
from .simulate import Scenario

HOUR_S = 3600.0


def _sine(seed: int) -> list[SimRequest]:
    return poisson(sine(20, 0.8, 1800), duration_s=HOUR_S, max_rate=36, seed=seed)


def _steps(seed: int) -> list[SimRequest]:
    levels = [(0.0, 8.0), (900.0, 20.0), (1800.0, 12.0), (2700.0, 28.0)]
    return poisson(steps(levels), duration_s=HOUR_S, max_rate=28, seed=seed)


def _flash(seed: int) -> list[SimRequest]:
    rate = flash_crowd(8, 40, at_s=1200, rise_s=300, decay_s=300)
    return poisson(rate, duration_s=HOUR_S, max_rate=40, seed=seed)


def _bursts(seed: int) -> list[SimRequest]:
    rate = bursts(6, 18, every_s=600, lasts_s=120)
    return poisson(rate, duration_s=2 * HOUR_S, max_rate=18, seed=seed)


def _clients(seed: int) -> list[SimRequest]:
    return clients(20.0, number=20, duration_s=HOUR_S, seed=seed)


SYNTHETIC: dict[str, Callable[[int], list[SimRequest]]] = {
    "sine": _sine,
    "steps": _steps,
    "flash": _flash,
    "bursts": _bursts,
    "clients": _clients,
}
"""Two slow waves; levels that change from one second to the next; a crowd that comes within five
minutes; two hours with a batch job every ten minutes; twenty clients that send in bursts. From a
seed."""


def synthetic(name: str, *, seed: int = 0) -> Scenario:
    return Scenario(name=name, requests=SYNTHETIC[name](seed), seed=seed)


def of_trace(
    path: Path, *, copies: int = 1, time_scale: float = 1.0, form: str = "auto",
    duration_s: float = HOUR_S,
) -> Scenario:  # fmt: skip
    """The first `duration_s` seconds of a trace of a format that `shoal bench` reads: some have no
    end. Raises ConfigError for a bad file."""
    rows = read_trace(path, form, fallback=(None, None), seed=0)
    first = takewhile(lambda row: row.start_s <= duration_s, iter(rows))
    requests = of_rows(first, copies=copies, time_scale=time_scale)
    name = path.stem if ":" not in form else form.partition(":")[2]
    return Scenario(name=name, requests=requests)
