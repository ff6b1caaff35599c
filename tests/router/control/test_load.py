from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from shoal.errors import ConfigError
from shoal.router.access.keys import KeyStore, generate_key, key_digest
from shoal.router.control.load import COMMAND_LINE_KEYS, Loaded, Source, load, merge
from shoal.router.control.redact import redacted
from shoal.router.settings.config import RouterConfig
from shoal.settings.small_file import MAX_BYTES

ENVIRON = {"WORKER_KEY": "sk-secret"}


@pytest.fixture
def loaded(tmp_path: Path) -> Any:
    def from_text(text: str, **source: Any) -> Loaded:
        file = tmp_path / "router.yaml"
        file.write_text(text)
        return load(Source(file=file, **source), ENVIRON)

    return from_text


def test_nothing_is_the_defaults() -> None:
    assert load(Source()) == Loaded(config=RouterConfig())


def test_an_empty_file_is_the_defaults(loaded: Any) -> None:
    assert loaded("# nothing yet\n").config == RouterConfig()


def test_words_and_numbers_are_what_people_mean(loaded: Any) -> None:
    config = loaded(
        "failover: {mode: off}\n"
        "routing: {kv_events: off, session_from_user: true}\n"
        "retry: {backoff_s: 1e-3}\n"
        "listen: {port: 0}\n"
        "telemetry: {access_log: null, usage_log: ~}\n"
        "models: [{name: 'no', aliases: [on, 2024-01-01]}]\n"
    ).config
    assert (config.failover.mode, config.routing.kv_events) == ("off", "off")
    assert config.retry.backoff_s == 0.001
    assert (config.telemetry.access_log, config.telemetry.usage_log) == (None, None)
    assert config.models[0].aliases == ("on", "2024-01-01")


def test_anchors_and_merges_work(loaded: Any) -> None:
    config = loaded(
        "discovery:\n  static:\n"
        "  - &worker {url: 'http://a:1', weight: 2}\n"
        "  - {<<: *worker, url: 'http://b:1'}\n"
    ).config
    assert [(each.url, each.weight) for each in config.discovery.static] == [
        ("http://a:1", 2.0),
        ("http://b:1", 2.0),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("listen: {port: 99999}", r"listen\.port: .*at least 0, at most 65535"),
        ("listen: {port: '80'}", r"listen\.port: expected `int`, got `str`"),
        ("listen: {processes: 0}", r"listen\.processes: .*at least 1, at most 128"),
        ("hedge: {after_s: .nan}", r"hedge\.after_s: .*above 0"),
        ("drain_timeout_s: .inf", r"drain_timeout_s: .*at most 86400"),
        ("routing: {policy: fastest}", r"routing\.policy: 'fastest' is not one of cost, .*session"),
        ("routing: {polcy: cost}", r"routing has no setting 'polcy' \(did you mean policy\?\)"),
        ("nonsense: 1", r"the configuration has no setting 'nonsense'. It has: listen, "),
        ("discovery: {static: [{url: '10.0.0.1:80'}]}", r"discovery\.static\[0\]\.url: .*https\?"),
        ("discovery: {static: [{url: 'http://a', engine: x}]}", r"is not one of auto, openai,"),
        ("- 1", "expected settings by name, got list"),
        (
            "listen: {port: 1}\nlisten: {port: 2}",
            r"line 2, column 1: the key 'listen' is there",
        ),
        ("listen: [", r"line 1, column 10"),
        ("x: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: \x00", "is not YAML"),
        ("models: [{name: a, split: [{weight: 0}]}]", r"models\[0\]: split of 'a'"),
        ("models: [{name: a}, {name: b, aliases: [a]}]", "the name 'a' is taken twice"),
        ("models: [{name: a, fallback: [a]}]", "names the model itself"),
        ("flow_control: {bands: []}", "at least one band"),
        ("flow_control: {min_concurrency: 9, max_concurrency: 8}", "is above"),
        (
            "flow_control: {bands: [{name: a, priority: 1}, {name: b, priority: 1}]}",
            "each needs its own priority",
        ),
        ("breaker: {open_s: 9, max_open_s: 8}", "is above"),
        ("upstream: {client_key: k.pem}", "go together"),
        ("upstream: {api_key: $NOT_THERE}", "has no NOT_THERE"),
        ("admin: {autoscaler_api_key: $NOT_THERE}", "admin.autoscaler_api_key is .NOT_THERE"),
        ("admin: {autoscaler_url: 'ftp://x'}", "admin.autoscaler_url"),
        ("upstream: {ca: /not/there}", "/not/there"),
        ("listen: {tls: {certificate: /not/there, key: /not/there}}", "/not/there"),
        ("auth: {keys_file: /not/there}", "/not/there cannot be read"),
        ("admin: {api_keys_file: /not/there}", "/not/there cannot be read"),
        ("telemetry: {usage_log: /not/there/usage.json}", r"telemetry\.usage_log: cannot write"),
        ("listen: {host: 0.0.0.0}", "listen.allow_open"),
        ("listen: {host: some.name}", "listen.allow_open"),
        ("admin: {host: '::'}", "admin.api_keys_file"),
        ("listen: {port: 8081}", "the admin API has its own port"),
        ("listen: {host: 0.0.0.0, port: 8081, allow_open: true}", "the admin API has its own port"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(
    loaded: Any, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        loaded(text)
    assert str(tmp_path / "router.yaml") in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "listen: {host: 127.0.0.2}",
        "listen: {host: localhost}",
        "listen: {host: '::1'}",
        "listen: {host: 0.0.0.0, allow_open: true}",
        "listen: {host: 0.0.0.0}\nauth: {jwt: {jwks_url: 'https://i/j', issuer: i, audience: a}}",
        "listen: {port: 0}\nadmin: {port: 0}",
    ],
)
def test_what_is_meant_is_allowed(loaded: Any, text: str) -> None:
    loaded(text)


def test_a_file_that_is_not_there_or_too_large(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(Source(file=tmp_path / "none"))
    large = tmp_path / "large"
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="is larger than 4 MiB"):
        load(Source(file=large))


def test_options_win_over_the_file_and_workers_are_added(loaded: Any) -> None:
    config = loaded(
        "listen: {port: 9000, processes: 2}\ndiscovery: {static: [{url: 'http://a:1'}]}",
        overrides={"listen": {"port": 9001}, "discovery": {"static": [{"url": "http://b:1"}]}},
    ).config
    assert (config.listen.port, config.listen.processes) == (9001, 2)
    assert [each.url for each in config.discovery.static] == ["http://a:1", "http://b:1"]


def test_merging_leaves_its_arguments_as_they_were() -> None:
    content = {"a": {"b": [1]}, "c": None}
    assert merge(content, {"a": {"b": [2]}, "c": {"d": 1}}) == {"a": {"b": [1, 2]}, "c": {"d": 1}}
    assert content == {"a": {"b": [1]}, "c": None}


def test_the_key_for_workers_comes_from_the_environment_and_is_not_shown(loaded: Any) -> None:
    config = loaded("upstream: {api_key: $WORKER_KEY}").config
    assert config.upstream.api_key == "sk-secret"
    shown = redacted(config)
    assert shown["upstream"]["api_key"] == "***"
    config = loaded("admin: {autoscaler_api_key: $WORKER_KEY}").config
    assert config.admin.autoscaler_api_key == "sk-secret"
    assert redacted(config)["admin"]["autoscaler_api_key"] == "***"
    assert shown["listen"]["port"] == 8080


def test_passwords_in_addresses_are_not_shown(loaded: Any) -> None:
    shown = redacted(
        loaded(
            "limits: {redis_url: 'redis://me:pass@cache:6379/0'}\n"
            "discovery: {static: [{url: 'http://u:p@a:1/x@y'}]}"
        ).config
    )
    assert shown["limits"]["redis_url"] == "redis://***@cache:6379/0"
    assert shown["discovery"]["static"][0]["url"] == "http://***@a:1/x@y"


def test_keys_of_the_file_and_of_the_command_line_are_one_list(loaded: Any, tmp_path: Path) -> None:
    filed, given, other = generate_key(), generate_key(), "plain"
    keys = tmp_path / "keys.yaml"
    keys.write_text(yaml.safe_dump([{"name": "one", "sha256": key_digest(filed)}]))
    plain = tmp_path / "plain"
    plain.write_text(f"{given}\n{filed}\n")
    found = loaded(f"auth: {{keys_file: {keys}}}", api_keys_file=plain, api_keys=(other,))
    store = KeyStore.from_yaml(found.keys)
    assert len(store) == 3
    for key in (filed, given, other):
        assert store.find(bytes.fromhex(key_digest(key))) is not None
    assert other.encode() not in found.keys
    assert set(found.files) == {tmp_path / "router.yaml", keys, plain}


def test_keys_of_the_command_line_alone_close_the_api(tmp_path: Path) -> None:
    found = load(Source(api_keys=("k",), overrides={"listen": {"host": "0.0.0.0"}}))
    assert found.config.auth.keys_file == COMMAND_LINE_KEYS
    assert len(KeyStore.from_yaml(found.keys)) == 1
    assert found.files == ()


@pytest.mark.parametrize("content", ["", "[]"])
def test_a_keys_file_without_keys_does_not_open_the_api(
    loaded: Any, tmp_path: Path, content: str
) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text(content)
    with pytest.raises(ConfigError, match="holds no key"):
        loaded(f"auth: {{keys_file: {keys}}}")


def test_admin_keys(loaded: Any, tmp_path: Path) -> None:
    keys = tmp_path / "admin"
    keys.write_text("a\nb\n")
    found = loaded(f"admin: {{host: 0.0.0.0, api_keys_file: {keys}}}")
    assert found.admin_keys == ("a", "b")
    keys.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not text"):
        loaded(f"admin: {{api_keys_file: {keys}}}")
    keys.write_text("\n")
    with pytest.raises(ConfigError, match="holds no key"):
        loaded(f"admin: {{api_keys_file: {keys}}}")


def test_a_configuration_survives_its_journey_to_the_processes(loaded: Any) -> None:
    config = loaded("hedge: {after_s: 1}\nmodels: [{name: a, split: [{weight: 1}]}]").config
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(config), type=RouterConfig) == config
