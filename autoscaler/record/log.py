"""The decision log: a file of JSON lines that can be decided again.

A file begins with the spec and the state of the scaler, so each stands for itself: what was decided
before it need not be there. So does the life of a process, which has learnt nothing yet.
"""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
import structlog

from shoal import __version__
from shoal.errors import ConfigError

from ..core.spec import ScalingSpec
from ..core.state import ScalerState
from ..policy import ScalingPolicy
from .decision_record import DecisionRecord, spec_hash
from .snapshot import to_plain

MAX_BYTES = 32 * 1024 * 1024
"""Of one file: about a day of decisions every 5 s."""
KEPT_FILES = 4
"""The one that grows included: LOG, LOG.1 (newest), ..."""
_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


class LogStart(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="start"):
    """What the decisions below it begin with."""

    version: str
    """Of Shoal."""
    model: str
    spec: ScalingSpec
    spec_hash: str
    is_new: bool
    """Whether a process has begun, and not only a file."""
    state: Any
    """See `snapshot.py`."""


class DecisionLog:
    """Of one model. A `Recorder`: what cannot be written is lost, said once, and no failure."""

    def __init__(
        self,
        path: Path,
        policy: ScalingPolicy,
        *,
        max_bytes: int = MAX_BYTES,
        kept_files: int = KEPT_FILES,
    ) -> None:
        """Raises ConfigError when the file cannot be written, or another process writes it."""
        self._path = path
        self._policy = policy
        self._max_bytes = max_bytes
        self._kept_files = kept_files
        self._file: int | None = None
        """Its descriptor."""
        self._size = 0
        self._is_new = True
        self._is_current = False
        """Whether all that the state has seen since the last start is in the file."""
        self._is_deciding = False
        self._has_failed = False
        try:
            self._open()
        except BlockingIOError:
            raise ConfigError(f"{path}: another process writes this decision log") from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from None

    def before(self, state: ScalerState, now: float) -> None:
        """Begin a file, or the life of a process, with the state that decisions start from."""
        # A decision that was begun and never came has changed the state, maybe.
        is_current = self._is_current and not self._is_deciding
        self._is_deciding = True
        try:
            if self._file is None:
                self._open()
                is_current = False
            elif self._size >= self._max_bytes:
                self._rotate()
                is_current = False
            if not is_current:
                self._write(self._start(state))
                self._is_new, self._is_current = False, True
        except Exception as error:  # whatever it is, it must not stop a decision
            self._fail(error)

    def record(self, record: DecisionRecord) -> None:
        """Write one line."""
        self._is_deciding = False
        if not self._is_current:
            return
        try:
            self._write(with_finite_numbers(record))
            self._has_failed = False
        except Exception as error:
            self._fail(error)

    def close(self) -> None:
        """Another process may write it then."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _start(self, state: ScalerState) -> LogStart:
        spec = self._policy.spec
        return LogStart(
            version=__version__,
            model=self._policy.model,
            spec=spec,
            spec_hash=spec_hash(spec),
            is_new=self._is_new,
            state=to_plain(state),
        )

    def _write(self, line: msgspec.Struct) -> None:
        assert self._file is not None
        content = _encode(line) + b"\n"
        written = os.write(self._file, content)
        self._size += written
        if written < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        file = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._size = os.fstat(file).st_size
            if self._size and os.pread(file, 1, self._size - 1) != b"\n":
                self._size += os.write(file, b"\n")  # a line was cut: the next stands alone
        except OSError:
            os.close(file)
            raise
        self._file = file

    def _rotate(self) -> None:
        self.close()
        for number in range(self._kept_files - 1, 0, -1):
            older = self._path if number == 1 else _numbered(self._path, number - 1)
            if older.exists():
                older.replace(_numbered(self._path, number))
        if self._kept_files == 1:
            self._path.unlink()
        self._open()

    def _fail(self, error: Exception) -> None:
        """The disk is full, maybe: go on without, and begin anew when there is room."""
        self.close()
        self._is_current = False
        if not self._has_failed:
            _log.error("decision_log.failed", path=str(self._path), exc_info=error)
        self._has_failed = True


def with_finite_numbers(record: DecisionRecord) -> DecisionRecord:
    """JSON has no infinity: such numbers of the explanation are left out."""
    explain = record.decision.explain
    if all(map(isfinite, explain.values())):
        return record
    finite = {name: number for name, number in explain.items() if isfinite(number)}
    return msgspec.structs.replace(record, decision=replace(record.decision, explain=finite))


def log_path(directory: Path, policy_name: str) -> Path:
    """Where the decisions of a policy NAMESPACE/NAME are, among those of others."""
    return directory / f"{policy_name.replace('/', '.')}.jsonl"


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
