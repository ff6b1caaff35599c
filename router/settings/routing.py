"""Which worker: models, policies, splits."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from shoal.settings.ranges import Bytes, CountOrZero, Ratio, Seconds, SecondsOrZero, Text, Weight

PolicyName = Literal[
    "cost",
    "round_robin",
    "random",
    "power_of_two",
    "least_loaded",
    "session",
    "prefix",
    "prefix_exact",
]


class SplitArm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One arm of a canary or A/B split."""

    weight: Weight
    """Relative share of the traffic, 0 or more."""
    model: Text | None = None
    """The name workers serve; none: the model's own name."""
    selector: dict[str, str] = {}
    """Labels its endpoints have, for example {version: canary}."""


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is special about one model name; a model without an entry is passed on by its name."""

    name: Text
    aliases: tuple[Text, ...] = ()
    policy: PolicyName | None = None
    """None: that of `routing`."""
    split: tuple[SplitArm, ...] = ()
    sticky_by: Literal["session", "key", "none"] = "session"
    """What keeps a client on one arm of the split."""
    fallback: tuple[Text, ...] = ()
    """Models to try, in order, while this one has no endpoint that can serve."""

    def __post_init__(self) -> None:
        if self.split and not any(arm.weight > 0 for arm in self.split):
            raise ValueError(f"split of {self.name!r}: at least one arm needs a weight above 0")
        if self.name in self.fallback:
            raise ValueError(f"fallback of {self.name!r} names the model itself")


class RoutingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The default policy and its inputs."""

    policy: PolicyName = "cost"
    session_headers: tuple[Text, ...] = ("x-session-id",)
    """First one present wins; then the body's `user` when `session_from_user` is true."""
    session_from_user: bool = False
    kv_events: Literal["auto", "off"] = "auto"
    """auto: workers that publish KV events are indexed exactly, for `cost` and `prefix_exact`."""
    max_index_blocks: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)] = 1_000_000
    """Bound of the prefix index, over all endpoints."""
    slow_start_s: SecondsOrZero = 5.0
    """A worker that became ready gets its full share only after so long."""


class RetryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Before the first byte a request may move to another worker."""

    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 4
    """The first one included."""
    budget_ratio: Annotated[float, msgspec.Meta(ge=0, le=100)] = 0.2
    """Retries per request over the last 10 s, beyond the first `budget_min`."""
    budget_min: CountOrZero = 32
    backoff_s: SecondsOrZero = 0.01
    """Of the second retry on; doubles, with full jitter, up to `max_backoff_s`."""
    max_backoff_s: SecondsOrZero = 0.25


class HedgeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A second copy of a request whose first token is late; the first to answer wins."""

    after_s: Seconds
    max_ratio: Ratio = 0.05
    """Share of requests that may be hedged."""


class FailoverConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Streams that outlive their worker."""

    mode: Literal["exact", "any", "off"] = "exact"
    """exact: only where the continuation is the text the first worker would have written (greedy or
    seeded). any: sampled streams too; the text stays a likely one, but is not the same."""
    max_attempts: Annotated[int, msgspec.Meta(ge=0, le=100)] = 3
    max_recorded_bytes: Bytes = 4 * 1024 * 1024
    """A stream that grew longer can no longer be continued."""
