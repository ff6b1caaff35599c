"""Checks of whole-number options that several workloads share."""

from __future__ import annotations

from shoal.errors import ConfigError


def at_least_one(value: int | None, option: str) -> int:
    """The value. Raises ConfigError naming the option when it is missing or below 1."""
    if value is None or value < 1:
        raise ConfigError(f"--{option} is {value}: it must be at least 1")
    return value
