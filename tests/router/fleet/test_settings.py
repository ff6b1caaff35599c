"""What monitors are told of the configuration."""

from __future__ import annotations

import pytest

from shoal.errors import ConfigError
from shoal.router.fleet.settings import monitor_settings
from shoal.router.settings.config import RouterConfig
from shoal.router.settings.listen import UpstreamConfig
from shoal.router.settings.routing import RoutingConfig


def upstream(api_key: str | None) -> RouterConfig:
    return RouterConfig(upstream=UpstreamConfig(api_key=api_key))


def test_keys_are_given_or_come_from_the_environment() -> None:
    assert monitor_settings(upstream(None), {}).api_key is None
    assert monitor_settings(upstream("plain"), {}).api_key == "plain"
    assert monitor_settings(upstream("$KEY"), {"KEY": "hidden"}).api_key == "hidden"


@pytest.mark.parametrize(
    ("key", "environ"),
    [("$KEY", {}), ("$KEY", {"KEY": ""}), ("two\r\nlines", {}), ("$KEY", {"KEY": "ü"})],
)
def test_keys_that_cannot_be_sent(key: str, environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"upstream\.api_key") as caught:
        monitor_settings(upstream(key), environ)
    assert "two" not in str(caught.value)


def test_certificates_are_read_again_only_when_named_anew() -> None:
    before = monitor_settings(upstream("a"), {})
    assert monitor_settings(upstream("a"), {}, before).tls is before.tls
    assert monitor_settings(upstream("b"), {}, before).tls is not before.tls


def test_kv_events_may_be_off() -> None:
    assert monitor_settings(RouterConfig(), {}).follows_kv_events
    off = RouterConfig(routing=RoutingConfig(kv_events="off"))
    assert not monitor_settings(off, {}).follows_kv_events
