"""Plain keys in a file, one a line: of the API, or of an admin API."""

from __future__ import annotations

from pathlib import Path

from shoal.errors import ConfigError

from .small_file import read_bytes


def read_keys(path: Path | None, setting: str) -> tuple[str, ...]:
    """The keys; blank lines do not count, and without a file there are none.

    Raises ConfigError when the file named by `setting` cannot be read or has no key, for then the
    server would be open to everybody against the wish of whoever named it.
    """
    if path is None:
        return ()
    try:
        keys = read_bytes(path).decode().split()
    except UnicodeDecodeError:
        raise ConfigError(f"{setting}: {path} cannot be read: it is not text") from None
    except ConfigError as error:
        raise ConfigError(f"{setting}: {error}") from None
    if not keys:
        raise ConfigError(f"{setting}: {path} holds no key")
    return tuple(keys)
