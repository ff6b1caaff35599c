"""Keys that the router shows to others: to workers in place of its clients', to an autoscaler."""

from __future__ import annotations

from collections.abc import Mapping

from shoal.errors import ConfigError


def worker_key(text: str | None, environ: Mapping[str, str]) -> str | None:
    """That of `upstream.api_key`."""
    return shown_key(text, environ, "upstream.api_key")


def shown_key(text: str | None, environ: Mapping[str, str], setting: str) -> str | None:
    """The value of a setting, or what it names: `$NAME` is read from the environment.

    Raises ConfigError when that is not set, or cannot be sent in a header.
    """
    key = text
    if text is not None and text.startswith("$"):
        key = environ.get(text[1:])
        if not key:
            raise ConfigError(f"{setting} is {text}, but the environment has no {text[1:]}")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConfigError(f"{setting} has characters that an HTTP header cannot carry")
    return key
