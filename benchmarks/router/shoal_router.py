"""Shoal's router as it would run in production: keys, limits, metrics and logs are on.

Limits are set so high that nobody meets them, and are counted all the same.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from .wish import Wish

KEY = "sk-shoal-bm90LWEtc2VjcmV0LW9ubHktdGhlLWtleS1vZi1hLWJlbmNo"
"""No secret: the router that knows it lives for seconds, on loopback."""
AUTHORIZATION = {"authorization": f"Bearer {KEY}"}


def command(wish: Wish) -> list[str]:
    """Writes its configuration and keys into the wish's folder."""
    config = wish.folder / "router.yaml"
    config.write_text(json.dumps(configuration(wish), indent=1), encoding="utf-8")
    keys = [{"name": "bench", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]
    (wish.folder / "keys.yaml").write_text(json.dumps(keys), encoding="utf-8")
    return [str(Path(sys.executable).with_name("shoal")), "route", "--config", str(config)]


def configuration(wish: Wish) -> dict[str, Any]:
    """A `RouterConfig` as plain data; JSON is YAML too."""
    config: dict[str, Any] = {
        "listen": {"host": "127.0.0.1", "port": wish.port, "processes": 1},
        "admin": {"host": "127.0.0.1", "port": wish.side_port},
        "discovery": {"static": [{"url": url} for url in wish.worker_urls]},
        "routing": {"policy": "cost"},
        "limits": {
            "requests_per_minute": 1_000_000_000,
            "tokens_per_minute": 2_000_000_000,
            "max_parallel_requests": 100_000,
        },
        "auth": {"keys_file": str(wish.folder / "keys.yaml")},
        "telemetry": {
            "access_log": str(wish.folder / "access.log"),
            "usage_log": str(wish.folder / "usage.log"),
        },
    }
    if wish.first_byte_timeout_s is not None:
        config["upstream"] = {"first_byte_timeout_s": wish.first_byte_timeout_s}
    return config
