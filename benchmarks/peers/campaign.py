"""The whole run: contestants in turns, every line kept on disk as soon as it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from shoal.benchmarks.environment import environment
from shoal.benchmarks.results_file import write_section

from .commands import Command
from .comparison import OURS, OURS_BF16, conclude, turns
from .peers_result import Contestant, Line, PeersResult, encode, write_whole
from .results_page import is_disturbed, results_page
from .sitting import sit
from .standard_set import Case

INTERRUPTED = 130


class Campaign:
    """One run of the benchmark and its result."""

    def __init__(
        self,
        contestants: Sequence[Command],
        cases: Sequence[Case],
        *,
        repeats: int,
        quick: bool,
        model: str,
        out: Path,
        console: Console,
    ) -> None:
        self._commands = {command.name: command for command in contestants}
        self._cases = cases
        self._json = out / "results" / "peers.json"
        self._page = out / "RESULTS.md"
        self._console = console
        self.result = PeersResult(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            environment=dict(environment()),
            model=model,
            repeats=repeats,
            quick=quick,
            contestants={
                command.name: Contestant(version=command.version, settings=command.settings)
                for command in contestants
            },
            cases={case.name: case.title for case in cases},
        )

    def run(self) -> int:
        """0; 1 when a measurement of Shoal failed; 130 after Ctrl-C."""
        try:
            for repeat, name in turns(list(self._commands), self.result.repeats):
                self._console.print(
                    f"repeat {repeat + 1} of {self.result.repeats}: {name}", highlight=False
                )
                sit(self._commands[name], self._cases, repeat=repeat, note=self._note)
        except KeyboardInterrupt:
            self.result.interrupted = True
            self._write()
            return INTERRUPTED
        failed = {line.server for line in self.result.lines if line.error}
        return 1 if failed & {OURS, OURS_BF16} else 0

    def summary(self) -> dict[str, Any]:
        """For the last line of the output."""
        result = self.result
        return {
            "benchmark": "peers",
            "ratio_to_best_peer": result.ratio_to_best_peer,
            "ratio_to_best_peer_bf16": result.ratio_to_best_peer_bf16,
            "best_peer": result.best_peer,
            "output_tokens_per_s": {
                server: {
                    case: figures["output_tokens_per_s"]
                    for case, figures in cases.items()
                    if "output_tokens_per_s" in figures
                }
                for server, cases in result.medians.items()
            },
            "repeats": result.repeats,
            "quick": result.quick,
            "interrupted": result.interrupted,
            "failed_lines": sum(line.error is not None for line in result.lines),
            "disturbed_lines": sum(is_disturbed(line) for line in result.lines),
            "lines": len(result.lines),
            **result.environment,
        }

    def _note(self, line: Line) -> None:
        self.result.lines.append(line)
        conclude(self.result)
        self._write()
        figures = ", ".join(f"{name} {value:g}" for name, value in line.figures.items())
        taken = "" if line.foreign_cpu is None else f" [{line.foreign_cpu:.0%} taken by others]"
        self._console.print(
            f"  {line.case}: {line.error or figures}{taken}",
            highlight=False, markup=False, style="red" if line.error else None, soft_wrap=True,
        )  # fmt: skip

    def _write(self) -> None:
        write_whole(encode(self.result), self._json)
        write_section(self._page, "make bench-peers", results_page(self.result))
