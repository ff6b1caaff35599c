"""Where programs of one user that run now find each other: sockets, and what is told of them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from shoal.errors import ConfigError


def runtime_home() -> Path:
    """`$XDG_RUNTIME_DIR/shoal`, else a folder of this user below /tmp; made if need be.

    Raises ConfigError when somebody else owns it.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    path = Path(runtime) / "shoal" if runtime else Path("/tmp") / f"shoal-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise ConfigError(f"{path} cannot be made: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(f"{path} must be a folder of this user alone (mode 0700); remove it")
    return path
