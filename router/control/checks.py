"""What a configuration must keep that no single setting can know: openness, addresses, files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from shoal.admin.auth import is_loopback
from shoal.errors import ConfigError

from ..access.tls import client_context, server_context
from ..settings.config import RouterConfig


def check(config: RouterConfig) -> None:
    """Raises ConfigError: which settings do not go together, and what to do."""
    _check_openness(config)
    _check_addresses(config)
    if config.listen.tls is not None:
        server_context(config.listen.tls)
    client_context(config.upstream)
    for setting, path in _written_files(config):
        _check_can_write(setting, path)


def _check_openness(config: RouterConfig) -> None:
    listen, auth = config.listen, config.auth
    has_client_certificates = listen.tls is not None and listen.tls.client_ca is not None
    is_open = auth.keys_file is None and auth.jwt is None and not has_client_certificates
    if is_open and not listen.allow_open and not is_loopback(listen.host):
        raise ConfigError(
            f"listen.host is {listen.host}, so other machines could use every model without a key. "
            "Name keys (auth.keys_file, auth.jwt, listen.tls.client_ca, --api-key-file), or "
            "say that this is meant: listen.allow_open: true (--allow-open)"
        )
    if config.admin.api_keys_file is None and not is_loopback(config.admin.host):
        raise ConfigError(
            f"admin.host is {config.admin.host}, so other machines could remove endpoints. "
            "Name admin.api_keys_file (/metrics, /health and /ready stay open), or use 127.0.0.1"
        )


def _check_addresses(config: RouterConfig) -> None:
    api, admin = config.listen, config.admin
    if api.port and api.port == admin.port and _overlap(api.host, admin.host):
        raise ConfigError(
            f"listen.port and admin.port are both {api.port}; the admin API has its own port"
        )


def _overlap(one: str, other: str) -> bool:
    everywhere = {"0.0.0.0", "::"}
    return one == other or one in everywhere or other in everywhere


def _written_files(config: RouterConfig) -> Iterator[tuple[str, Path]]:
    telemetry = config.telemetry
    if telemetry.access_log not in (None, "-"):
        yield "telemetry.access_log", Path(str(telemetry.access_log))
    if telemetry.usage_log not in (None, "-"):
        yield "telemetry.usage_log", Path(str(telemetry.usage_log))


def _check_can_write(setting: str, path: Path) -> None:
    target = path if path.exists() else path.parent
    if path.is_dir() or not target.exists() or not os.access(target, os.W_OK):
        raise ConfigError(f"{setting}: cannot write {path}")
