"""How tests are shared out when pytest runs them in several processes (`-n 2 --dist loadfile`).

A file stays in one process, as its fixtures do. Tests of whole programs (processes, sockets,
clocks) all stay in one and the same: they run one after the other, never beside another of their
kind, while the other process computes.
"""

from __future__ import annotations

from typing import Any

import pytest

_WHOLE_PROGRAMS = (
    "tests/autoscaler/",
    "tests/benchmarks/autoscaler/",
    "tests/benchmarks/fake_worker/",
    "tests/benchmarks/peers/",
    "tests/benchmarks/router/",
    "tests/benchmarks/test_",
    "tests/cli/",
    "tests/engine/server/",
    "tests/engine/test_async_engine",
    "tests/engine/test_supervision",
    "tests/router/console/",
    "tests/router/control/",
    "tests/router/e2e/",
    "tests/router/failover/",
)


def unit_of_work(nodeid: str) -> str:
    """Tests with the same answer run in one process."""
    file = nodeid.partition("::")[0]
    if file.startswith(_WHOLE_PROGRAMS) and not file.startswith("tests/autoscaler/core/"):
        return "whole programs"
    return file


# pytest-xdist's; without it nobody calls this.
@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """Like `--dist loadfile`, but for what `unit_of_work` keeps together."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of_work(nodeid)

    return Scheduling(config, log)
