"""The address of a server: what users type, as what requests are made of."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from shoal.errors import ConfigError


def server_url(text: str) -> str:
    """`http://host:port`, and a path if there is one, without the `/v1` that clients are given.

    Raises ConfigError for anything that would be dropped on the way: results are passed around,
    and nothing of a server's address may be a secret or be silently ignored.
    """
    parts = _split(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{text!r} is not an http:// or https:// URL")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("a URL with a user or a password: put what the server wants in --api-key")
    if parts.query or parts.fragment:
        raise ConfigError(f"{text!r}: the address of a server ends before the first ? or #")
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text.strip())
        _ = parts.port  # raises for one that is no number, or above 65535
    except ValueError as error:
        raise ConfigError(f"{text!r} is not a URL: {error}") from None
    return parts
