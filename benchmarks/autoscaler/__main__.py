"""All loads that come with the simulator, and the traces given: tables, then one line of JSON.

`python -m shoal.benchmarks.autoscaler [--trace FILE[::FORMAT]]... [--json FILE] [--results FILE]`
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from shoal.errors import ConfigError

from ..environment import environment
from ..results_file import write_section
from ..sim.compare import Comparison, compare
from ..sim.loads import SYNTHETIC, of_trace, synthetic
from ..sim.simulate import Scenario
from ..sim.summary import figures, terminal_table
from .section import COMMAND, section

MOST_PROCESSES = 8


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        scenarios = [synthetic(name, seed=options.seed) for name in options.load or SYNTHETIC]
        scenarios += [_trace(given) for given in options.trace]
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    comparisons: list[Comparison] = []
    result: dict[str, object] = {}
    for scenario in scenarios:
        comparisons.append(compare(scenario, processes=min(os.cpu_count() or 1, MOST_PROCESSES)))
        console.print(terminal_table(comparisons[-1]))
        result = _result(comparisons, options.seed)
        if options.json is not None:  # after each load: who stops it keeps what was measured
            options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        if options.results is not None:
            write_section(options.results, COMMAND, section(result))
    print(json.dumps(result))
    return 0


def _result(comparisons: Sequence[Comparison], seed: int) -> dict[str, object]:
    return {
        "benchmark": "autoscaler",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "loads": {one.scenario: figures(one) for one in comparisons},
        "environment": environment(),
    }


def _trace(given: str) -> Scenario:
    path, _, form = given.partition("::")
    return of_trace(Path(path), form=form or "auto")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="shoal.benchmarks.autoscaler", description=__doc__)
    parser.add_argument("--load", action="append", choices=SYNTHETIC, default=None)
    parser.add_argument("--trace", action="append", default=[], metavar="FILE[::FORMAT]")
    parser.add_argument("--seed", type=int, default=0, help="of the loads that are made up")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--results", type=Path, help="the page whose section is replaced")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
