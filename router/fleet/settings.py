"""What every monitor of a fleet needs of the configuration, resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..access.tls import ReloadableContext, client_context
from ..access.worker_key import worker_key
from ..settings.config import RouterConfig
from ..settings.listen import UpstreamConfig
from ..settings.protection import HealthConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorSettings:
    """Of one configuration; replaced by the next."""

    health: HealthConfig
    upstream: UpstreamConfig
    api_key: str | None
    """Sent to workers as their bearer key."""
    tls: ReloadableContext
    follows_kv_events: bool


def monitor_settings(
    config: RouterConfig, environ: Mapping[str, str], previous: MonitorSettings | None = None
) -> MonitorSettings:
    """Raises ConfigError when a key or a certificate is not there.

    The TLS context of `previous` stays when its settings are the same: its files are read again.
    """
    api_key = worker_key(config.upstream.api_key, environ)
    if previous is not None and previous.upstream == config.upstream:
        tls = previous.tls
        tls.reload()
    else:
        tls = client_context(config.upstream)
    return MonitorSettings(
        health=config.health,
        upstream=config.upstream,
        api_key=api_key,
        tls=tls,
        follows_kv_events=config.routing.kv_events != "off",
    )
