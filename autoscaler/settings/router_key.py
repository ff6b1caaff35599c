"""The key of a router's admin API: a policy names the environment variable that holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shoal.errors import ConfigError

ROUTER_KEY: Final = "SHOAL_ROUTER_KEY"
"""The variable for a router that no policy names."""


def router_key(key_env: str | None, environ: Mapping[str, str]) -> str | None:
    """Raises ConfigError when the variable that is named holds none."""
    if key_env is None:
        return None
    key = environ.get(key_env, "").strip()
    if not key:
        raise ConfigError(f"spec.router.keyEnv: the autoscaler has no variable {key_env}")
    return key
