from __future__ import annotations

from hashlib import sha256

import pytest

from shoal.errors import ConfigError
from shoal.router.access.keys import KeyStore, generate_key, key_digest, parse_keys
from shoal.router.access.principal import Principal
from shoal.router.settings.protection import LimitsConfig

A, B = "a" * 64, "b" * 64


def test_a_key_leads_to_its_principal() -> None:
    key = generate_key()
    store = KeyStore.from_yaml(
        f"- {{name: team-a, sha256: {key_digest(key)}, models: [llama], priority: 3, weight: 2}}"
        f"\n- {{name: team-b, sha256: {A}}}".encode()
    )
    assert len(store) == 2
    assert store.find(sha256(key.encode()).digest()) == Principal(
        "team-a", "team-a", frozenset({"llama"}), priority=3, weight=2.0
    )
    assert store.find(bytes.fromhex(B)) is None


def test_the_first_bytes_of_a_digest_are_not_enough() -> None:
    store = KeyStore.from_yaml(f"- {{name: a, sha256: {A}}}".encode())
    assert store.find(bytes.fromhex("a" * 62 + "bb")) is None
    assert store.find(bytes.fromhex(A)[:31]) is None


def test_limits_of_the_key_come_before_those_of_the_configuration() -> None:
    defaults = LimitsConfig(requests_per_minute=60, tokens_per_minute=100, max_parallel_requests=8)
    store = KeyStore.from_yaml(
        f"- {{name: a, sha256: {A}, requests_per_minute: 5, tokens_per_minute: 0}}".encode(),
        limits=defaults,
    )
    principal = store.find(bytes.fromhex(A))
    assert principal is not None
    assert principal[3:6] == (5, 0, 8)


def test_no_models_is_not_all_models() -> None:
    store = KeyStore.from_yaml(f"- {{name: a, sha256: {A}, models: []}}".encode())
    principal = store.find(bytes.fromhex(A))
    assert principal is not None
    assert principal.models == frozenset()


@pytest.mark.parametrize("content", [b"", b"# nothing yet\n", b"[]"])
def test_an_empty_file_has_no_keys(content: bytes) -> None:
    assert parse_keys(content) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [", "not YAML"),
        (b"\xff\xfe\xff", "not YAML"),
        (b"name: a", "must be a YAML list"),
        (b"- 5", "entry 1"),
        (f"- {{name: a, sha256: {A}}}\n- {{name: bob, sha256: {B}, modls: [x]}}", "entry 2 (bob)"),
        (f"- {{name: a, sha256: {A}, modls: [x]}}", "modls"),
        ("- {name: a}", "sha256"),
        ("- {name: a, sha256: abc}", "64 hexadecimal digits"),
        (f"- {{name: a, sha256: {'x' * 64}}}", "64 hexadecimal digits"),
        (f"- {{name: '', sha256: {A}}}", "1 to 128 printable"),
        (f"- {{name: a, sha256: {A}, requests_per_minute: -1}}", "requests_per_minute must be 0"),
        (f"- {{name: a, sha256: {A}, weight: 0}}", "weight must be above 0"),
        (f"- {{name: a, sha256: {A}, weight: heavy}}", "weight"),
        (f"- {{name: a, sha256: {A}}}\n- {{name: a, sha256: {B}}}", "entries 1 and 2"),
        (f"- {{name: a, sha256: {A}}}\n- {{name: b, sha256: {A.upper()}}}", "same key as a"),
        ("- !!python/object/apply:os.system [true]", "not YAML"),
    ],
)
def test_what_is_wrong_is_named(content: bytes | str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_keys(content if isinstance(content, bytes) else content.encode())
    assert said in str(raised.value)
    assert A not in str(raised.value)
