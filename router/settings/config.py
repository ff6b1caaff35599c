"""The whole of a router's configuration."""

from __future__ import annotations

import msgspec

from shoal.settings.ranges import SecondsOrZero

from .access import AuthConfig, TelemetryConfig
from .discovery import DiscoveryConfig
from .listen import AdminConfig, BoundsConfig, ListenConfig, UpstreamConfig
from .protection import BreakerConfig, FlowControlConfig, HealthConfig, LimitsConfig
from .routing import FailoverConfig, HedgeConfig, ModelConfig, RetryConfig, RoutingConfig


class RouterConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One YAML file."""

    listen: ListenConfig = ListenConfig()
    admin: AdminConfig = AdminConfig()
    bounds: BoundsConfig = BoundsConfig()
    upstream: UpstreamConfig = UpstreamConfig()
    discovery: DiscoveryConfig = DiscoveryConfig()
    models: tuple[ModelConfig, ...] = ()
    routing: RoutingConfig = RoutingConfig()
    retry: RetryConfig = RetryConfig()
    hedge: HedgeConfig | None = None
    failover: FailoverConfig = FailoverConfig()
    flow_control: FlowControlConfig = FlowControlConfig()
    limits: LimitsConfig = LimitsConfig()
    health: HealthConfig = HealthConfig()
    breaker: BreakerConfig = BreakerConfig()
    auth: AuthConfig = AuthConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    drain_timeout_s: SecondsOrZero = 30.0
    """How long running requests may go on after SIGTERM."""
    handover_timeout_s: SecondsOrZero = 600.0
    """How long streams may go on in a process that was replaced (restart, takeover)."""

    def __post_init__(self) -> None:
        names: set[str] = set()
        for model in self.models:
            for name in (model.name, *model.aliases):
                if name in names:
                    raise ValueError(
                        f"models: the name {name!r} is taken twice (names and aliases)"
                    )
                names.add(name)
