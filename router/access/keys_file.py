"""The keys file as `shoal keys` changes it: whole or not at all, for its owner alone."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import yaml

from shoal.errors import ConfigError

from .keys import KeyEntry, parse_keys

_LOCK_TIMEOUT_S = 5.0
_LOCK_RETRY_S = 0.02
_MODE = 0o600


def read_keys(path: Path) -> list[KeyEntry]:
    """Raises ConfigError when there is no such file, or an entry is wrong."""
    try:
        return parse_keys(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the keys file {path}: {error.strerror}") from None


def add_key(path: Path, entry: KeyEntry) -> None:
    """Appends an entry; the file is made when there is none, and its comments stay.

    Raises ConfigError when the name is taken or the file cannot be written.
    """
    with _locked(path):
        before = path.read_bytes() if path.exists() else b""
        entries = parse_keys(before)
        if any(known.name == entry.name for known in entries):
            raise ConfigError(
                f"{path} has a key named {entry.name!r} already. Choose another --name, or remove "
                f"it first: shoal keys remove --file {path} --name {entry.name}"
            )
        added = before + (b"" if before.endswith(b"\n") or not before else b"\n") + _dump([entry])
        if not _holds(added, [*entries, entry]):  # a list in another style: written anew
            added = _dump([*entries, entry])
        _replace(path, added)


def remove_key(path: Path, name: str) -> KeyEntry:
    """Takes an entry out and returns it; comments of the file are lost.

    Raises ConfigError when there is none of that name.
    """
    with _locked(path):
        entries = read_keys(path)
        for entry in entries:
            if entry.name == name:
                _replace(path, _dump([other for other in entries if other is not entry]))
                return entry
    raise ConfigError(
        f"{path} has no key named {name!r}. It has: "
        f"{', '.join(entry.name for entry in entries) or 'none'}"
    )


def _dump(entries: list[KeyEntry]) -> bytes:
    plain = [msgspec.to_builtins(entry) for entry in entries]
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).encode() if plain else b"[]\n"


def _holds(content: bytes, entries: list[KeyEntry]) -> bool:
    try:
        return parse_keys(content) == entries
    except ConfigError:
        return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One command at a time in this folder; the lock leaves no file behind."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigError(f"cannot open the folder of {path}: {error.strerror}") from None
    try:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ConfigError(
                        f"another `shoal keys` is changing {path}; try again"
                    ) from None
                time.sleep(_LOCK_RETRY_S)
        yield
    finally:
        os.close(folder)


def _replace(path: Path, content: bytes) -> None:
    target = path.resolve()  # a link keeps leading to the file
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else _MODE
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".keys-", delete=False) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.fchmod(file.fileno(), mode)
                os.replace(file.name, target)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise ConfigError(f"cannot write the keys file {path}: {error.strerror}") from None
