"""Reading a file that people have named, and that is small if it is the right one."""

from __future__ import annotations

from pathlib import Path

from shoal.errors import ConfigError

MAX_BYTES = 4 * 1024 * 1024


def read_bytes(path: Path) -> bytes:
    """A small file. Raises ConfigError when it cannot be read, or is larger than `MAX_BYTES`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES >> 20} MiB: not a configuration")
    return content
