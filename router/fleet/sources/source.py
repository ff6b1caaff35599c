"""What every source of endpoints is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeAlias

import msgspec

from shoal.errors import ConfigError

from ...settings.discovery import StaticEndpoint
from ..address import parse_address
from ..roster import Found

Publish: TypeAlias = Callable[[Sequence[Found]], None]


class Source(Protocol):
    """Lists endpoints, again and again."""

    @property
    def name(self) -> str:
        """For logs: which source of several."""
        ...

    async def run(self, publish: Publish) -> None:
        """Call `publish` with the whole list, first and whenever it has changed; until cancelled.

        A source that fails keeps its last list: it logs why, and tries again.
        """
        ...


def normalised(endpoint: StaticEndpoint) -> StaticEndpoint:
    """With the one spelling of its URL. Raises ConfigError for what is no URL."""
    return msgspec.structs.replace(endpoint, url=parse_address(endpoint.url).url)


def found(endpoints: Iterable[StaticEndpoint]) -> tuple[Found, ...]:
    """As listed by hand. Raises ConfigError that names the wrong one."""
    listed = []
    for index, endpoint in enumerate(endpoints):
        try:
            listed.append(Found(normalised(endpoint)))
        except ConfigError as error:
            raise ConfigError(f"endpoint {index + 1}: {error}") from None
    return tuple(listed)
