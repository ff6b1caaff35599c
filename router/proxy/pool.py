"""Connections to one worker that are kept open between requests.

Last in, first out: the busiest stay warm and the others grow old and close. None is used after
`pool_idle_timeout_s`, which lies below the time after which workers close idle connections
(uvicorn: 5 s): the race between our request and their close is what users of other routers see as
stray 500s.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final
from urllib.parse import urlsplit

from shoal.errors import ConfigError

from ..settings.listen import UpstreamConfig
from .outbox import Outbox
from .response_head import KnownAnswer, ResponseHead, known_answer
from .upstream import UpstreamConnection

_MAX_PATHS: Final = 32


class Address:
    """Where a worker is, out of its URL."""

    __slots__ = ("_posts", "host", "host_field", "is_tls", "path_prefix", "port")

    def __init__(self, url: str) -> None:
        """Raises ConfigError for what is no http(s) URL."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"not an http:// or https:// URL of a worker: {url!r}")
        self.is_tls = parts.scheme == "https"
        self.host = parts.hostname
        self.port = parts.port or (443 if self.is_tls else 80)
        self.host_field = b"host: %b\r\n" % parts.netloc.rpartition("@")[2].encode()
        self.path_prefix = parts.path.rstrip("/").encode()
        self._posts: dict[bytes, bytes] = {}

    def post(self, path: bytes) -> bytes:
        """How a POST to it begins: request line and Host. Those of the usual paths are kept."""
        lines = self._posts.get(path)
        if lines is None:
            lines = b"POST %b%b HTTP/1.1\r\n%b" % (self.path_prefix, path, self.host_field)
            if len(self._posts) < _MAX_PATHS:
                self._posts[path] = lines
        return lines


class Pool:
    """All connections to one worker: the idle ones here, the busy ones with their attempts."""

    def __init__(
        self,
        address: Address,
        settings: UpstreamConfig,
        outbox: Outbox,
        *,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.address = address
        self.outbox = outbox
        self.configure(settings, tls=tls)
        self._idle: list[UpstreamConnection] = []
        self._is_closed = False
        self.known_answer: KnownAnswer | None = None
        """How the latest whole answers began."""
        self.returned = (ResponseHead(), b"")
        """The latest head, and its lines as clients got them."""

    def configure(self, settings: UpstreamConfig, *, tls: ssl.SSLContext | None) -> None:
        """For the connections made from now on."""
        self._settings = settings
        self._tls = tls if self.address.is_tls else None

    def take(self, now: float) -> UpstreamConnection | None:
        """An idle connection that is fit to be used."""
        idle = self._idle
        oldest = now - self._settings.pool_idle_timeout_s
        while idle:
            connection = idle.pop()
            if connection.idle_since > oldest and connection.is_open:
                return connection
            connection.abandon()
        return None

    async def connect(self) -> UpstreamConnection:
        """A new connection. Raises OSError (TimeoutError too)."""
        address = self.address
        async with asyncio.timeout(self._settings.connect_timeout_s):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: UpstreamConnection(self),
                address.host,
                address.port,
                ssl=self._tls,
                server_hostname=address.host if self._tls is not None else None,
            )
        return connection

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep it for the next request; the caller knows that the worker may keep it too."""
        if self._is_closed or len(self._idle) >= self._settings.max_pooled_per_endpoint:
            connection.abandon()
            return
        connection.idle_since = self.outbox.now()
        self._idle.append(connection)

    def learn_answer(self, message: bytes, head: ResponseHead) -> None:
        """A whole answer was read at once."""
        known = known_answer(message, head)
        if known is not None:
            self.known_answer = known

    def lost(self, connection: UpstreamConnection) -> None:
        """The worker closed it, or it broke."""
        if connection.asker is None and connection in self._idle:
            self._idle.remove(connection)

    def sweep(self, now: float) -> None:
        """Close what is too old to be used; oldest first, since new ones are put at the end."""
        oldest = now - self._settings.pool_idle_timeout_s
        idle = self._idle
        count = 0
        while count < len(idle) and idle[count].idle_since <= oldest:
            count += 1
        old, idle[:count] = idle[:count], []
        for connection in old:
            connection.abandon()

    @property
    def num_idle(self) -> int:
        return len(self._idle)

    def close(self) -> None:
        """Close the idle ones now and the busy ones when they are done."""
        self._is_closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.abandon()
