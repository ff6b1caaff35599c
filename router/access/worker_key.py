"""The key that the router shows to workers, in place of its clients'."""

from __future__ import annotations

from collections.abc import Mapping

from shoal.errors import ConfigError


def worker_key(text: str | None, environ: Mapping[str, str]) -> str | None:
    """`upstream.api_key`, or what it names: `$NAME` is read from the environment.

    Raises ConfigError when that is not set, or cannot be sent in a header.
    """
    key = text
    if text is not None and text.startswith("$"):
        key = environ.get(text[1:])
        if not key:
            raise ConfigError(f"upstream.api_key is {text}, but the environment has no {text[1:]}")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConfigError("upstream.api_key has characters that an HTTP header cannot carry")
    return key
