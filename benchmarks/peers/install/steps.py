"""One command of an installation: shown while it runs, its output kept in a log."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from shoal.errors import ShoalError

SHOWN_CHARACTERS = 60
POLL_S = 0.5


class InstallFailed(ShoalError):
    """A step ended badly or something is missing; the message says what, and names the log."""


class Steps:
    """The steps of one peer. Progress goes to stderr: a spinner on a terminal, lines in a log."""

    def __init__(self, name: str, log: Path, console: Console) -> None:
        self._name = name
        self._log = log
        self._console = console
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log.write_text("", encoding="utf-8")

    def say(self, text: str) -> None:
        self._console.print(f"{self._name}: {text}", highlight=False, markup=False)

    def run(
        self, what: str, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None
    ) -> None:
        """Run one command to its end. Raises InstallFailed when it cannot start or fails."""
        command = [str(part) for part in argv]
        start = time.monotonic()
        if not self._console.is_terminal:
            self.say(f"{what} ...")
        with (
            self._log.open("ab") as log,
            self._console.status(f"{self._name}: {what}") as status,
        ):
            log.write(f"$ {' '.join(command)}\n".encode())
            log.flush()
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env
                )
            except OSError as error:
                raise InstallFailed(f"{self._name}: {what}: cannot start: {error}") from None
            try:
                while process.poll() is None:
                    seconds = time.monotonic() - start
                    line = last_line(self._log)[:SHOWN_CHARACTERS]
                    status.update(f"{self._name}: {what} ({seconds:.0f} s) [dim]{_plain(line)}")
                    time.sleep(POLL_S)
            except BaseException:  # Ctrl-C too: nothing may go on compiling behind our back
                process.terminate()
                process.wait()
                raise
        if process.returncode != 0:
            raise InstallFailed(
                f"{self._name}: {what} failed with exit code {process.returncode}"
                f" ({last_line(self._log)}); everything it said is in {self._log}"
            )
        self.say(f"{what}: done in {time.monotonic() - start:.0f} s")


def last_line(log: Path) -> str:
    """The last line with anything on it, from the last few kilobytes."""
    with log.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 4096))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
