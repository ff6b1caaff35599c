"""The whole run: routers in turns, every line kept on disk as soon as it is measured."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from shoal.benchmarks.environment import environment
from shoal.benchmarks.peers.comparison import turns
from shoal.benchmarks.peers.foreign_cpu import foreign_share, read_cpu
from shoal.benchmarks.peers.peers_result import Contestant as ContestantRecord
from shoal.benchmarks.peers.peers_result import Line, write_whole
from shoal.benchmarks.results_file import write_section

from .contestants import SHOAL, Contestant
from .programs import Programs
from .results_section import results_section
from .router_result import RouterResult, encode
from .stage import Case, Figures, Stage
from .verdict import conclude

INTERRUPTED = 130


class Campaign:
    """One run of the benchmark and its result."""

    def __init__(
        self,
        contestants: Sequence[Contestant],
        cases: Sequence[Case],
        *,
        programs: Programs,
        repeats: int,
        quick: bool,
        soak_minutes: float,
        left_out: Mapping[str, str],
        out: Path | None,
        console: Console,
    ) -> None:
        """Without `out` nothing is written."""
        self._contestants = {contestant.name: contestant for contestant in contestants}
        self._cases = [case for case in cases if case.name != "soak" or soak_minutes > 0]
        self._programs = programs
        self._out = out
        self._console = console
        self.result = RouterResult(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            environment=dict(environment()),
            repeats=repeats,
            quick=quick,
            soak_minutes=soak_minutes,
            contestants={
                who.name: ContestantRecord(version=who.version, settings=who.settings)
                for who in contestants
            },
            left_out=dict(left_out),
            cases={case.name: case.title for case in self._cases},
        )
        conclude(self.result)

    def run(self) -> int:
        """0; 1 when a measurement of Shoal failed; 130 after Ctrl-C."""
        try:
            for case, repeat, contestant in self._turns():
                self._measure(case, repeat, contestant)
        except KeyboardInterrupt:
            self.result.interrupted = True
            self._write()
            return INTERRUPTED
        return 1 if any(line.server == SHOAL and line.error for line in self.result.lines) else 0

    def summary(self) -> dict[str, Any]:
        """For the last line of the output."""
        result = self.result
        return {
            "benchmark": "router",
            **result.verdict,
            "medians": result.medians,
            "left_out": result.left_out,
            "repeats": result.repeats,
            "quick": result.quick,
            "interrupted": result.interrupted,
            "failed_lines": sum(line.error is not None for line in result.lines),
            "lines": len(result.lines),
            **result.environment,
        }

    def _turns(self) -> Iterator[tuple[Case, int, Contestant]]:
        """Case by case, so that those who are compared are measured within a minute of each other;
        within a case every repeat begins with another router."""
        for case in self._cases:
            names = [name for name in self._contestants if name in case.contestants]
            if not names:
                continue
            self._say(f"{case.name}: {case.title}")
            for repeat, name in turns(names, self.result.repeats):
                if repeat == 0 or case.repeated is None or name in case.repeated:
                    yield case, repeat, self._contestants[name]

    def _measure(self, case: Case, repeat: int, contestant: Contestant) -> None:
        """Whatever goes wrong is a line with an error, and the next one's turn."""
        line = Line(server=contestant.name, repeat=repeat, case=case.name)
        before = read_cpu()
        status = f"{case.name}, repeat {repeat + 1}: {contestant.name}"
        with (
            tempfile.TemporaryDirectory(prefix="shoal-bench-router-") as folder,
            self._console.status(status),
        ):
            stage = Stage(
                programs=self._programs,
                folder=Path(folder),
                quick=self.result.quick,
                soak_minutes=self.result.soak_minutes,
                say=lambda text: self._say(f"    {text}"),
            )
            try:
                line.figures = rounded(case.measure(stage, contestant))
            except Exception as error:
                line.error = described(error)
            line.foreign_cpu = round(
                foreign_share(before, read_cpu(), num_cores=os.cpu_count() or 1), 3
            )
        self._note(line)

    def _note(self, line: Line) -> None:
        self.result.lines.append(line)
        conclude(self.result)
        self._write()
        figures = ", ".join(f"{name} {value:g}" for name, value in line.figures.items())
        taken = "" if line.foreign_cpu is None else f" [{line.foreign_cpu:.0%} taken by others]"
        self._console.print(
            f"  {line.server} ({line.repeat + 1}): {line.error or figures}{taken}",
            highlight=False, markup=False, style="red" if line.error else None, soft_wrap=True,
        )  # fmt: skip

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    def _write(self) -> None:
        if self._out is not None:
            write_whole(encode(self.result), self._out / "results" / "router.json")
            write_section(
                self._out / "RESULTS.md", "make bench-router", results_section(self.result)
            )


def described(error: Exception) -> str:
    """What went wrong; of a group the first of its errors, which the others followed from."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def rounded(figures: Figures) -> Figures:
    """Six significant digits: more were never measured."""
    return {name: float(f"{value:.6g}") for name, value in figures.items()}
