"""A keys file for tests: a few keys, each as the router's clients have it."""

from __future__ import annotations

from shoal.router.access.keys import key_digest
from shoal.router.settings.access import AuthConfig

AUTH = AuthConfig(keys_file="keys.yaml")


def keys_file(**entries: str) -> bytes:
    """By name: what else an entry has. The key of `name` is `sk-name`."""
    return "".join(
        f"- {{name: {name}, sha256: {key_digest(f'sk-{name}')}{', ' if more else ''}{more}}}\n"
        for name, more in entries.items()
    ).encode()


def bearer(name: str) -> bytes:
    """The header line of a key's owner."""
    return f"Authorization: Bearer sk-{name}\r\n".encode()
