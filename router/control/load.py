"""From a YAML file, command line options and files that they name to a checked configuration.

The only place of the router that reads the environment for settings. Loading changes nothing: a
reload that fails leaves what was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from shoal.errors import ConfigError
from shoal.settings.explain import explain
from shoal.settings.key_file import read_keys
from shoal.settings.small_file import read_bytes
from shoal.settings.yaml_file import read_yaml

from ..access.keys import KeyEntry, key_digest, parse_keys
from ..access.worker_key import shown_key, worker_key
from ..settings.config import RouterConfig
from .checks import check

COMMAND_LINE_KEYS = "(command line)"
"""Stands for `auth.keys_file` when keys were given as options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a configuration comes from; what a reload reads again."""

    file: Path | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Nested like the file. A value here wins; `discovery.static` is added to the file's."""
    api_keys_file: Path | None = None
    """Plain keys, one a line, that clients may use (the file's `auth.keys_file` has hashes)."""
    api_keys: tuple[str, ...] = ()
    """More of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration with the content of the files that it names."""

    config: RouterConfig
    keys: bytes = b""
    """Content of `auth.keys_file`, or the same made from keys on the command line."""
    admin_keys: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    """All that were read: what is watched."""


def load(source: Source, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Raises ConfigError: the file, the setting, what is wrong with it, and what is allowed."""
    content = {} if source.file is None else read_yaml(source.file)
    where = "the command line" if source.file is None else str(source.file)
    if content is None:  # an empty file
        content = {}
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected settings by name, got {type(content).__name__}")
    try:
        config = msgspec.convert(merge(content, source.overrides), RouterConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {explain(error, RouterConfig)}") from None
    try:
        config = _with_environment(config, environ)
        config, keys = _with_keys(config, source)
        loaded = Loaded(
            config=config,
            keys=keys,
            admin_keys=_admin_keys(config),
            files=(*_files(source, config),),
        )
        check(config)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return loaded


def merge(content: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with `overrides` laid over it; lists are joined."""
    merged = dict(content)
    for name, value in overrides.items():
        below = merged.get(name)
        if isinstance(value, Mapping) and (below is None or isinstance(below, Mapping)):
            merged[name] = merge(below or {}, value)
        elif isinstance(value, list) and isinstance(below, list):
            merged[name] = [*below, *value]
        else:
            merged[name] = value
    return merged


def _with_environment(config: RouterConfig, environ: Mapping[str, str]) -> RouterConfig:
    """`upstream.api_key: $NAME` is the value of a variable; the same of the autoscaler's."""
    key = worker_key(config.upstream.api_key, environ)
    upstream = msgspec.structs.replace(config.upstream, api_key=key)
    setting = "admin.autoscaler_api_key"
    key = shown_key(config.admin.autoscaler_api_key, environ, setting)
    admin = msgspec.structs.replace(config.admin, autoscaler_api_key=key)
    return msgspec.structs.replace(config, upstream=upstream, admin=admin)


def _with_keys(config: RouterConfig, source: Source) -> tuple[RouterConfig, bytes]:
    plain = (*source.api_keys, *read_keys(source.api_keys_file, "--api-key-file"))
    if config.auth.keys_file is None:
        if not plain:
            return config, b""
        config = msgspec.structs.replace(
            config, auth=msgspec.structs.replace(config.auth, keys_file=COMMAND_LINE_KEYS)
        )
        entries: list[KeyEntry] = []
    else:
        content = read_bytes(Path(config.auth.keys_file))
        entries = parse_keys(content)  # raises ConfigError that names the entry
        if not plain:
            if not entries and config.auth.jwt is None:
                raise ConfigError(
                    f"auth.keys_file: {config.auth.keys_file} holds no key, so nobody could "
                    "get in; `shoal keys add` adds one"
                )
            return config, content
    known = {entry.sha256.lower() for entry in entries}
    for number, key in enumerate(dict.fromkeys(plain), 1):
        if (digest := key_digest(key)) not in known:
            entries.append(KeyEntry(name=f"command-line-{number}", sha256=digest))
    # JSON is YAML.
    return config, msgspec.json.encode(entries)


def _admin_keys(config: RouterConfig) -> tuple[str, ...]:
    file = config.admin.api_keys_file
    return read_keys(None if file is None else Path(file), "admin.api_keys_file")


def _files(source: Source, config: RouterConfig) -> Iterator[Path]:
    tls, upstream, keys_file = config.listen.tls, config.upstream, config.auth.keys_file
    named = (
        source.file,
        source.api_keys_file,
        None if keys_file == COMMAND_LINE_KEYS else keys_file,
        config.admin.api_keys_file,
        *((tls.certificate, tls.key, tls.client_ca) if tls else ()),
        upstream.ca,
        upstream.client_certificate,
        upstream.client_key,
    )
    for name in named:
        if name is not None:
            yield Path(name)
