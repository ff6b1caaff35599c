"""All endpoints of a router: found, checked, asked, scraped, and told as records.

Owns every task, connection and subscription below it; `run` is their life.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from shoal.clock import Clock

from ..messages import EndpointRecord, KVBlocks
from ..settings.config import RouterConfig
from ..settings.discovery import StaticEndpoint


class Fleet:
    """What discovery found, with its state; tells when something has changed.

    Not thread-safe: every method is called on the loop that `run` runs on.
    """

    def __init__(
        self,
        config: RouterConfig,
        on_change: Callable[[list[EndpointRecord]], None],
        on_kv: Callable[[KVBlocks], None],
        clock: Clock,
        *,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """`on_change` gets all endpoints: within 20 ms of a change of status, models or membership,
        and once a scrape interval for numbers alone. `on_kv` gets changes of prefix caches as they
        come. Both must return at once.

        Raises ConfigError when an address or a key is wrong.
        """
        raise NotImplementedError

    async def run(self) -> None:
        """Until cancelled."""
        raise NotImplementedError

    def update(self, config: RouterConfig) -> None:
        """A new configuration: only what differs is started, stopped or changed.

        Raises ConfigError when it is wrong, and then nothing has changed.
        """
        raise NotImplementedError

    def endpoints(self) -> list[EndpointRecord]:
        """All endpoints now."""
        raise NotImplementedError

    def kv_blocks(self) -> list[KVBlocks]:
        """All prefix caches now, for a data-plane process that has just started: one message an
        endpoint whose events are followed, `cleared` first."""
        raise NotImplementedError

    def add(self, endpoint: StaticEndpoint) -> str:
        """Add one until it is removed or the process ends; returns its id.

        The same URL again replaces what was said of it. Raises InvalidRequest when it is wrong.
        """
        raise NotImplementedError

    def drain(self, endpoint_id: str) -> None:
        """Nothing new goes there; it stays listed until `undrain` or `remove`. Raises NotFound."""
        raise NotImplementedError

    def undrain(self, endpoint_id: str) -> None:
        """Takes back `drain`. Raises NotFound."""
        raise NotImplementedError

    def remove(self, endpoint_id: str) -> None:
        """Drain, then forget. A source that still lists it does not bring it back; one that lists
        it again does. Raises NotFound."""
        raise NotImplementedError

    def note_in_flight(self, in_flight: Mapping[str, int]) -> None:
        """Requests of all data-plane processes by endpoint_id; those left out have none."""
        raise NotImplementedError
