"""Endpoints behind a DNS name: every A and AAAA record of it."""

from __future__ import annotations

import asyncio
import socket

import structlog

from ...settings.discovery import DNSSource, StaticEndpoint
from ..address import Address
from ..roster import Found
from .source import Publish

LOOKUP_TIMEOUT_S = 10.0

log = structlog.get_logger(__name__)


class DNSNames:
    """Looks one name up, again and again."""

    def __init__(self, settings: DNSSource) -> None:
        self.name = f"dns {settings.name}:{settings.port}"
        self._settings = settings

    async def run(self, publish: Publish) -> None:
        listed: tuple[Found, ...] | None = None
        warned = False
        while True:
            try:
                found = await self._look_up()
            except (OSError, TimeoutError, UnicodeError) as error:
                # No address is no news: a name server in trouble says so too. Health checks know
                # better who of the old list is still there.
                if not warned:
                    reason = str(error) or "no answer in time"
                    log.warning("discovery.dns_failed", name=self._settings.name, reason=reason)
                warned = True
            else:
                warned = False
                if found != listed:
                    listed = found
                    publish(found)
            await asyncio.sleep(self._settings.interval_s)

    async def _look_up(self) -> tuple[Found, ...]:
        settings = self._settings
        async with asyncio.timeout(LOOKUP_TIMEOUT_S):
            answers = await asyncio.get_running_loop().getaddrinfo(
                settings.name, settings.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
            )
        hosts = sorted({str(answer[4][0]) for answer in answers})
        return tuple(
            Found(
                StaticEndpoint(
                    url=Address(settings.scheme, host, settings.port, "").url,
                    labels=settings.labels,
                )
            )
            for host in hosts
        )
