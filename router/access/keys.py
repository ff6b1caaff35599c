"""API keys: stored as SHA-256, found by digest, compared in constant time.

A key is `sk-shoal-` and 256 random bits. Slow password hashes exist because people choose
passwords that can be guessed; nobody guesses 256 random bits, however fast each guess is, so one
SHA-256 (0.5 us) protects the file as well as a slow hash would, and each request can afford it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from hashlib import sha256
from typing import Any

import msgspec
import yaml

from shoal.errors import ConfigError

from ..settings.protection import LimitsConfig
from .principal import Principal

KEY_PREFIX = "sk-shoal-"
_KEY_BYTES = 32
_INDEX_BYTES = 8
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class KeyEntry(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """One key as the file has it. Limits that are left out are those of the configuration."""

    name: str
    """Unique; logs and limits know the key by it."""
    sha256: str
    """Of the whole key, in hexadecimal."""
    tenant: str | None = None
    """None: the key's own name."""
    models: tuple[str, ...] | None = None
    """None: all."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_parallel_requests: int | None = None
    priority: int = 0
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if self.tenant is not None:
            check_name("tenant", self.tenant)
        try:
            digest = binascii.unhexlify(self.sha256)
        except ValueError:
            digest = b""
        if len(digest) != sha256().digest_size:
            raise ValueError("sha256 must be 64 hexadecimal digits")
        for limit in ("requests_per_minute", "tokens_per_minute", "max_parallel_requests"):
            value = getattr(self, limit)
            if value is not None and value < 0:
                raise ValueError(f"{limit} must be 0 (no limit) or more, got {value}")
        if not 0 < self.weight <= 1e6:
            raise ValueError(f"weight must be above 0 and at most 1e6, got {self.weight}")


def check_name(what: str, name: str) -> None:
    """Raises ValueError unless `name` can stand in a log line and a metric's label."""
    if not 0 < len(name) <= 128 or not name.isprintable():
        raise ValueError(f"{what} must be 1 to 128 printable characters, got {name[:140]!r}")


def generate_key() -> str:
    """A new key; whoever asked for it has the only copy."""
    random = secrets.token_bytes(_KEY_BYTES)
    return KEY_PREFIX + base64.urlsafe_b64encode(random).rstrip(b"=").decode()


def key_digest(key: str) -> str:
    """What the file keeps of a key."""
    return sha256(key.encode()).hexdigest()


class KeyStore:
    """Keys by digest; immutable, so a reload is a new store."""

    __slots__ = ("_found",)

    def __init__(self, found: dict[bytes, tuple[bytes, Principal]]) -> None:
        self._found = found

    def __len__(self) -> int:
        return len(self._found)

    @classmethod
    def from_yaml(cls, content: bytes, *, limits: LimitsConfig | None = None) -> KeyStore:
        """Reads a keys file. Raises ConfigError that names the entry which is wrong."""
        defaults = limits or LimitsConfig()
        found: dict[bytes, tuple[bytes, Principal]] = {}
        for entry in parse_keys(content):
            digest = bytes.fromhex(entry.sha256)
            found[digest[:_INDEX_BYTES]] = (digest, _principal(entry, defaults))
        return cls(found)

    def find(self, digest: bytes) -> Principal | None:
        """The owner of the key whose SHA-256 is `digest`.

        The first eight bytes find the entry, `compare_digest` decides: how long it takes tells at
        most that a key with these first bytes exists, and those are not the key's.
        """
        entry = self._found.get(digest[:_INDEX_BYTES])
        if entry is not None and hmac.compare_digest(entry[0], digest):
            return entry[1]
        return None


def parse_keys(content: bytes) -> list[KeyEntry]:
    """Entries of a keys file, checked. Raises ConfigError that names the entry which is wrong."""
    try:
        items = yaml.load(content, _YamlLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"keys file is not YAML: {error}") from None
    if items is None:
        return []
    if not isinstance(items, list):
        raise ConfigError(
            "keys file must be a YAML list of entries with a name and a sha256; "
            "`shoal keys add` writes one"
        )
    entries: list[KeyEntry] = []
    names: dict[str, int] = {}
    digests: dict[str, str] = {}
    for number, item in enumerate(items, 1):
        entry = _parse_entry(item, number)
        if entry.name in names:
            raise ConfigError(
                f"keys file, entries {names[entry.name]} and {number} have the same "
                f"name {entry.name!r}"
            )
        index = entry.sha256.lower()[: 2 * _INDEX_BYTES]
        if index in digests:
            raise ConfigError(
                f"keys file, entry {number} ({entry.name}): the same key as {digests[index]}"
            )
        names[entry.name] = number
        digests[index] = entry.name
        entries.append(entry)
    return entries


def _parse_entry(item: Any, number: int) -> KeyEntry:
    name = item.get("name") if isinstance(item, dict) else None
    try:
        return msgspec.convert(item, KeyEntry)
    except msgspec.ValidationError as error:
        called = f" ({name[:128]})" if isinstance(name, str) else ""
        raise ConfigError(f"keys file, entry {number}{called}: {error}") from None


def _principal(entry: KeyEntry, defaults: LimitsConfig) -> Principal:
    def limit(own: int | None, default: int) -> int:
        return default if own is None else own

    return Principal(
        key_id=entry.name,
        tenant=entry.tenant or entry.name,
        models=None if entry.models is None else frozenset(entry.models),
        requests_per_minute=limit(entry.requests_per_minute, defaults.requests_per_minute),
        tokens_per_minute=limit(entry.tokens_per_minute, defaults.tokens_per_minute),
        max_parallel_requests=limit(entry.max_parallel_requests, defaults.max_parallel_requests),
        priority=entry.priority,
        weight=entry.weight,
    )
