"""Objects of one kind, listed once and watched from there on.

The API's own protocol: a list has a resource version, a watch from that version tells every change;
when the version is too old (410 Gone) the list is made again. Whatever fails, the last list stays,
and `age` tells how long nobody has confirmed it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import structlog

from shoal.clock import Clock
from shoal.errors import ClusterError

from .api import GONE, JSON, METADATA_LIST_ONLY, METADATA_ONLY, Api

WATCH_S = 40
"""The server ends a watch after so long, and we begin another."""
SILENCE_S = 50.0
"""No word and no end for longer: the connection is dead. So old is what we know at the most."""
PAGE = 500
FIRST_BACKOFF_S = 0.2
MAX_BACKOFF_S = 15.0
STEADY_S = 20.0
"""What went well for so long was well: the next trouble is a new one."""
MAX_LINE_BYTES = 16 * 1024 * 1024

log = structlog.get_logger(__name__)


class _HasMetadata(Protocol):
    @property
    def metadata(self) -> Any: ...


T = TypeVar("T", bound=_HasMetadata)


class _ListMetadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _VersionOnly(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Bookmark(msgspec.Struct):
    metadata: _VersionOnly = msgspec.field(default_factory=_VersionOnly)


class _Status(msgspec.Struct):
    code: int = 500
    message: str = ""


_lists = msgspec.json.Decoder(_List)
_events = msgspec.json.Decoder(_Event)
_bookmarks = msgspec.json.Decoder(_Bookmark)
_statuses = msgspec.json.Decoder(_Status)


class Watch(Generic[T]):
    """All objects at one path that the selectors find."""

    def __init__(
        self, api: Api, path: str, kind: type[T], *, clock: Clock, labels: str = "",
        fields: str = "", metadata_only: bool = False, on_change: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """`kind` is the msgspec type of one object: the fields of it that are read. With
        `metadata_only` the server sends no others than `metadata`. `on_change` is called when
        `objects` has changed, and when there is a new `problem`."""
        self.objects: dict[tuple[str, str], T] = {}
        """By namespace and name."""
        self.problem: ClusterError | None = None
        """Why it is not confirmed at the moment."""
        self._api = api
        self._path = path
        self._selectors = {
            name: value
            for name, value in (("labelSelector", labels), ("fieldSelector", fields))
            if value
        }
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind)
        self._accepts = (METADATA_LIST_ONLY, METADATA_ONLY) if metadata_only else (JSON, JSON)
        self._clock = clock
        self._on_change = on_change
        self._confirmed_at: float | None = None
        self._is_open = False

    @property
    def is_open(self) -> bool:
        """Whether changes are told at the moment."""
        return self._is_open

    def age(self) -> float | None:
        """Seconds for which nobody has confirmed `objects`; None: they were never listed."""
        if self._confirmed_at is None:
            return None
        return 0.0 if self._is_open else self._clock.now() - self._confirmed_at

    async def run(self) -> None:
        """List and watch until cancelled."""
        backoff_s = FIRST_BACKOFF_S
        warned = ""
        version = ""
        while True:
            started = self._clock.now()
            try:
                if not version:
                    version = await self._list()
                while True:
                    version = await self._watch(version)
            except ClusterError as error:
                self.problem = error
                reason = str(error)
                if error.status == GONE:
                    version = ""
            except msgspec.DecodeError as error:
                # A list anew: whatever came between is unknown.
                version = ""
                reason = f"an answer that is not the API's: {error}"
                self.problem = ClusterError(reason)
            finally:
                self._closed()
            self._on_change()
            if self._clock.now() - started > STEADY_S:
                backoff_s, warned = FIRST_BACKOFF_S, ""
            if reason != warned:
                warned = reason
                log.warning("kubernetes.watch_again", path=self._path, reason=reason,
                            kept="what was known")  # fmt: skip
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(MAX_BACKOFF_S, 2 * backoff_s)

    async def _list(self) -> str:
        """All objects now; returns their version."""
        found: dict[tuple[str, str], T] = {}
        query = {**self._selectors, "limit": str(PAGE)}
        while True:
            page = _lists.decode(await self._api.get(self._path, query, accept=self._accepts[0]))
            for raw in page.items or ():
                one = self._decoder.decode(raw)
                found[one.metadata.namespace, one.metadata.name] = one
            if not page.metadata.continue_:
                break
            query["continue"] = page.metadata.continue_
        self.objects = found
        self._confirmed_at = self._clock.now()
        self.problem = None
        self._on_change()
        return page.metadata.resource_version

    async def _watch(self, version: str) -> str:
        """Take in changes until it ends; returns the version then. Raises ClusterError."""
        query = {
            **self._selectors, "watch": "true", "resourceVersion": version,
            "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_S),
        }  # fmt: skip
        seen = version
        try:
            async with self._api.stream(
                self._path, query, silence_s=SILENCE_S, accept=self._accepts[1]
            ) as pieces:
                self._is_open, self.problem = True, None
                async for line in _lines(pieces):
                    event = _events.decode(line)
                    if event.type == "ERROR":
                        status = _statuses.decode(event.object)
                        raise ClusterError(
                            f"watch of {self._path}: {status.message}", status=status.code
                        )
                    seen = self._take(event) or seen
        finally:
            self._closed()
        if seen == version:
            # It ended without a word. Most often its time was over; if not, do not hurry.
            await asyncio.sleep(random.uniform(0.1, 0.5))
        return seen

    def _take(self, event: _Event) -> str:
        """Returns the version that we have seen with it."""
        if event.type == "BOOKMARK":
            return _bookmarks.decode(event.object).metadata.resource_version
        one = self._decoder.decode(event.object)
        key = one.metadata.namespace, one.metadata.name
        if event.type == "DELETED":
            self.objects.pop(key, None)
        else:
            self.objects[key] = one
        self._on_change()
        return str(one.metadata.resource_version)

    def _closed(self) -> None:
        if self._is_open:
            self._is_open = False
            self._confirmed_at = self._clock.now()


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line:
                yield line
        if len(rest) > MAX_LINE_BYTES:
            raise ClusterError(f"a watch event of more than {MAX_LINE_BYTES} bytes")
