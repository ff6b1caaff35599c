"""A contestant without a server: its program loads, says so, works, and says how long it took."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .commands import OfflineCommand
from .running import PeerFailed, last_lines, stop_group
from .standard_set import LoadCase


class OfflineProgram:
    """The program while it runs; it prints one JSON line when it is loaded and one at its end."""

    def __init__(self, process: subprocess.Popen[str], log: Path, *, started: float) -> None:
        self.pid = process.pid
        self._process = process
        self._log = log
        self._started = started

    def wait_until_loaded(self) -> float:
        """Seconds from its start. Raises PeerFailed when it ends instead."""
        self._next_answer()
        return time.perf_counter() - self._started

    def figures(self) -> dict[str, float]:
        """Raises PeerFailed when the program ends without them."""
        return {name: float(value) for name, value in self._next_answer().items()}

    def _next_answer(self) -> Any:
        stdout: IO[str] | None = self._process.stdout
        for line in stdout or ():
            if line.startswith("{"):
                return json.loads(line)
        code = self._process.wait()
        raise PeerFailed(f"ended with exit code {code}:\n{last_lines(self._log)}")


@contextmanager
def offline_program(
    command: OfflineCommand, case: LoadCase, *, seed: int
) -> Iterator[OfflineProgram]:
    """Start it on `case`; stopped at the end if it has not ended. Raises PeerFailed."""
    argv = [
        *command.argv, "--seed", str(seed), "--num-requests", str(case.num_requests),
        "--input-tokens", str(case.input_tokens), "--output-tokens", str(case.output_tokens),
    ]  # fmt: skip
    with tempfile.NamedTemporaryFile("w+", prefix=f"{command.name}-", suffix=".log") as log:
        started = time.perf_counter()
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **command.env},
                start_new_session=True,
            )
        except OSError as error:
            raise PeerFailed(f"cannot start: {error}") from None
        try:
            yield OfflineProgram(process, Path(log.name), started=started)
        finally:
            stop_group(process)
            if process.stdout is not None:
                process.stdout.close()
