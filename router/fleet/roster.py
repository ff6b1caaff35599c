"""Who is in the fleet: what the sources list now, and who has to leave. Pure; time is an argument.

One URL is one endpoint, whichever sources list it: the first in the order of sources wins. An
endpoint that no source lists any more is *leaving*: it gets nothing new, and is gone once it has no
requests in flight, or when the time for that is over. One that an operator removed is leaving too,
and does not come back while a source goes on listing it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..settings.discovery import StaticEndpoint

GRACE_S = 1.0
"""A leaving endpoint stays this long even when idle: somebody may just have chosen it."""


class Found(NamedTuple):
    """One endpoint as a source lists it; its URL is normalised (`Address.url`)."""

    endpoint: StaticEndpoint
    is_terminating: bool = False
    """It ends soon: nothing new goes there."""


class Member:
    """One endpoint of the fleet."""

    __slots__ = (
        "endpoint",
        "endpoint_id",
        "is_drained",
        "is_terminating",
        "leaving_since",
        "source",
    )

    def __init__(self, endpoint_id: str, found: Found, source: str) -> None:
        self.endpoint_id = endpoint_id
        self.endpoint = found.endpoint
        self.source = source
        self.is_terminating = found.is_terminating
        self.is_drained = False
        """By an operator."""
        self.leaving_since: float | None = None

    @property
    def is_draining(self) -> bool:
        return self.is_drained or self.is_terminating or self.leaving_since is not None


class Changes(NamedTuple):
    """What a new listing changed."""

    added: tuple[Member, ...] = ()
    changed: tuple[Member, ...] = ()
    """Another weight, label, model list, ...; or leaving, or back."""
    duplicates: tuple[tuple[str, str, str], ...] = ()
    """(URL, source that wins, source that loses), each told once."""

    @property
    def is_empty(self) -> bool:
        return not self.added and not self.changed


_Key = tuple[str, str | None]
"""URL and name: another name at the same place is another endpoint."""


class Roster:
    """The members of a fleet."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        """By endpoint_id, in the order they came."""
        self._by_key: dict[_Key, Member] = {}
        self._banished: set[str] = set()
        """URLs that were removed and that a source still lists."""
        self._told_duplicates: set[tuple[str, str, str]] = set()

    def apply(self, listings: Mapping[str, Sequence[Found]], now: float) -> Changes:
        """All sources as they are now, in order of precedence."""
        listed, duplicates = self._listed(listings)
        new_duplicates = tuple(sorted(duplicates - self._told_duplicates))
        self._told_duplicates = duplicates
        added, changed = [], []
        for key, (source, found) in listed.items():
            member = self._by_key.get(key)
            if member is None:
                member = Member(self._free_id(found.endpoint), found, source)
                self.members[member.endpoint_id] = member
                self._by_key[key] = member
                added.append(member)
            elif _update(member, source, found):
                changed.append(member)
        for key, member in self._by_key.items():
            if key not in listed and member.leaving_since is None:
                member.leaving_since = now
                changed.append(member)
        return Changes(tuple(added), tuple(changed), new_duplicates)

    def drain(self, endpoint_id: str, *, is_drained: bool) -> bool:
        """An operator's word. False: no such member."""
        member = self.members.get(endpoint_id)
        if member is None:
            return False
        member.is_drained = is_drained
        return True

    def remove(self, endpoint_id: str, now: float) -> Member | None:
        """An operator's last word: it leaves, whatever the sources list. None: no such member."""
        member = self.members.get(endpoint_id)
        if member is None:
            return None
        self._banished.add(member.endpoint.url)
        if member.leaving_since is None:
            member.leaving_since = now
        return member

    def welcome(self, url: str) -> None:
        """Forget that it was removed."""
        self._banished.discard(url)

    def gone(self, in_flight: Mapping[str, int], now: float, *, timeout_s: float) -> list[Member]:
        """Takes out, and returns, the leaving members that have nothing left to do or no time."""
        gone = []
        for member in list(self.members.values()):
            if member.leaving_since is None:
                continue
            leaving_s = now - member.leaving_since
            is_idle = leaving_s >= GRACE_S and in_flight.get(member.endpoint_id, 0) <= 0
            if is_idle or leaving_s >= timeout_s:
                gone.append(member)
                del self.members[member.endpoint_id]
                del self._by_key[_key(member.endpoint)]
        return gone

    def _listed(
        self, listings: Mapping[str, Sequence[Found]]
    ) -> tuple[dict[_Key, tuple[str, Found]], set[tuple[str, str, str]]]:
        """Each URL once, with the source that wins it; and what was listed in vain."""
        listed: dict[_Key, tuple[str, Found]] = {}
        winners: dict[str, str] = {}
        duplicates = set()
        for source, founds in listings.items():
            for found in founds:
                url = found.endpoint.url
                if url in winners:
                    duplicates.add((url, winners[url], source))
                    continue
                winners[url] = source
                if url not in self._banished:
                    listed[_key(found.endpoint)] = (source, found)
        self._banished.intersection_update(winners)
        return listed, duplicates

    def _free_id(self, endpoint: StaticEndpoint) -> str:
        """Its name, if nobody has it: the pod that had it may still be leaving."""
        url = endpoint.url
        for candidate in (endpoint.name or url, url):
            if candidate not in self.members:
                return candidate
        return f"{url} ({endpoint.name})"


def _key(endpoint: StaticEndpoint) -> _Key:
    return endpoint.url, endpoint.name


def _update(member: Member, source: str, found: Found) -> bool:
    """Take over what is listed now; returns whether anything differs."""
    before = (member.endpoint, member.source, member.is_terminating, member.leaving_since)
    member.endpoint, member.source = found.endpoint, source
    member.is_terminating, member.leaving_since = found.is_terminating, None
    return before != (found.endpoint, source, found.is_terminating, None)
