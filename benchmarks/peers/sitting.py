"""One contestant's part of a repeat: start it, measure every case, stop it, note every line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

from shoal.errors import ShoalError

from .commands import Command, OfflineCommand, ServerCommand
from .foreign_cpu import CpuReading, foreign_share, read_cpu
from .load_case import measure_load
from .long_prompt import measure_long_prompt
from .memory_watch import MemoryWatch
from .offline import offline_program
from .peers_result import MEMORY, START, Line
from .running import RunningServer, running
from .standard_set import OFFLINE, STANDARD_SET, Case, LoadCase

WARM_UP = LoadCase(name="warm-up", title="", concurrency=4, num_requests=4, output_tokens=8)
WARM_UP_SEED = 1_000_000

Note = Callable[[Line], None]


def sit(command: Command, cases: Sequence[Case], *, repeat: int, note: Note) -> None:
    """Never raises for what a contestant does wrong: that is a line with an error."""
    sitting = Sitting(command, repeat, note)
    if isinstance(command, ServerCommand):
        sitting.measure_server(command, cases)
    else:
        sitting.measure_offline(command, cases)


class Sitting:
    def __init__(self, command: Command, repeat: int, note: Note) -> None:
        self._name = command.name
        self._repeat = repeat
        self._note = note

    def measure_server(self, command: ServerCommand, cases: Sequence[Case]) -> None:
        measured = False
        before = read_cpu()
        try:
            with running(command) as server, MemoryWatch(server.pid) as memory:
                self._add(START, {"start_s": server.start_s}, foreign_cpu=_foreign_since(before))
                after_load = memory.sample()
                measured = True
                asyncio.run(
                    measure_load(
                        server.url, command.model, WARM_UP, seed=WARM_UP_SEED + self._repeat
                    )
                )
                for case in cases:
                    self._measure_case(server, command.model, case)
                self._add_memory(after_load, memory)
        except ShoalError as error:
            self._add(WARM_UP.name if measured else START, {}, error=str(error))

    def measure_offline(self, command: OfflineCommand, cases: Sequence[Case]) -> None:
        for case in cases:
            if case.name == OFFLINE and isinstance(case, LoadCase):
                self._run_offline(command, case)

    def _run_offline(self, command: OfflineCommand, case: LoadCase) -> None:
        step = START
        before = read_cpu()
        try:
            with (
                offline_program(command, case, seed=self._seed(case)) as program,
                MemoryWatch(program.pid) as memory,
            ):
                start_s = program.wait_until_loaded()
                self._add(START, {"start_s": start_s}, foreign_cpu=_foreign_since(before))
                after_load = memory.sample()
                step, before = case.name, read_cpu()
                figures = program.figures()
                self._add(case.name, figures, foreign_cpu=_foreign_since(before))
                self._add_memory(after_load, memory)
        except ShoalError as error:
            self._add(step, {}, error=str(error))

    def _measure_case(self, server: RunningServer, model: str, case: Case) -> None:
        before = read_cpu()
        try:
            if isinstance(case, LoadCase):
                work = measure_load(server.url, model, case, seed=self._seed(case))
            else:
                work = measure_long_prompt(server.url, model, case, seed=self._seed(case))
            figures = asyncio.run(work)
        except ShoalError as error:
            self._add(case.name, {}, foreign_cpu=_foreign_since(before), error=str(error))
        else:
            self._add(case.name, figures, foreign_cpu=_foreign_since(before))

    def _seed(self, case: Case) -> int:
        """The same for every contestant of a repeat, and its own for every case and repeat."""
        names = [known.name for known in STANDARD_SET]
        return self._repeat * len(names) + names.index(case.name)

    def _add_memory(self, after_load: int, memory: MemoryWatch) -> None:
        memory.sample()
        figures = {"after_load_bytes": float(after_load), "peak_bytes": float(memory.peak_bytes)}
        self._add(MEMORY, figures)

    def _add(
        self,
        case: str,
        figures: dict[str, float],
        *,
        foreign_cpu: float | None = None,
        error: str | None = None,
    ) -> None:
        line = Line(
            server=self._name,
            repeat=self._repeat,
            case=case,
            figures={name: float(f"{value:.6g}") for name, value in figures.items()},
            foreign_cpu=None if foreign_cpu is None else round(foreign_cpu, 3),
            error=error,
        )
        self._note(line)


def _foreign_since(before: CpuReading) -> float:
    return foreign_share(before, read_cpu(), num_cores=os.cpu_count() or 1)
