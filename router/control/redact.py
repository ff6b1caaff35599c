"""A configuration as people may see it: without what opens a door."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ..settings.config import RouterConfig

HIDDEN = "***"
_SECRETS = frozenset({"api_key", "autoscaler_api_key"})
_USER_INFO = re.compile(r"(?<=://)[^/@\s]*@")


def redacted(config: RouterConfig) -> dict[str, Any]:
    """Plain data. Paths of key files stay: they are names, not keys."""
    shown = _redacted(msgspec.to_builtins(config))
    assert isinstance(shown, dict)
    return shown


def _redacted(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _redacted(below, key) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(below, name) for below in value]
    if isinstance(value, str):
        return HIDDEN if name in _SECRETS else _USER_INFO.sub(f"{HIDDEN}@", value)
    return value
