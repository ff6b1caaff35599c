"""The address of a worker: one spelling for one place."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from shoal.errors import ConfigError


class Address(NamedTuple):
    """Where a worker listens."""

    scheme: str
    host: str
    port: int
    path: str
    """Prefix of every path there, without a slash at its end; mostly empty."""

    @property
    def authority(self) -> str:
        """Host and port as a URL and a Host header have them; the scheme's own port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The one spelling: lower case, no slash at the end."""
        return f"{self.scheme}://{self.authority}{self.path}"


def parse_address(url: str) -> Address:
    """Raises ConfigError for anything but http(s)://HOST[:PORT][/PREFIX]."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{url!r} is not the URL of a worker: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url!r} is not the URL of a worker; it looks like http://10.0.0.7:8000")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"the URL of worker {parts.hostname} has a user, a query or a fragment; it may have a"
            " scheme, a host, a port and a path (keys belong into upstream.api_key)"
        )
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    path = parts.path.rstrip("/")
    if not (parts.netloc + path).isascii() or any(c <= " " or c == "\x7f" for c in path):
        raise ConfigError(f"{url!r} has characters that a request line cannot carry")
    return Address(parts.scheme, parts.hostname, port, path)


def with_host(zmq_address: str, host: str) -> str:
    """A ZeroMQ address as its worker bound it, as others reach it: a wildcard becomes `host`."""
    scheme, separator, rest = zmq_address.partition("://")
    name, colon, port = rest.rpartition(":")
    if scheme != "tcp" or not separator or not colon:
        return zmq_address
    if name in ("*", "0.0.0.0", "::", "[::]"):
        name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}:{port}"
