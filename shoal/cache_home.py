"""Where Shoal keeps what can be had again: downloaded models, compiled code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def cache_home(environ: Mapping[str, str] = os.environ) -> Path:
    """`$SHOAL_CACHE`, else `$XDG_CACHE_HOME/shoal`, else `~/.cache/shoal`.

    The one place that reads the environment for it.
    """
    if chosen := environ.get("SHOAL_CACHE"):
        return Path(chosen).expanduser()
    if xdg := environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "shoal"
    return Path.home() / ".cache" / "shoal"
