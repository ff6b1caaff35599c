"""One GET with a deadline, a bound on its body, and the reason why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import httpx

from shoal.errors import ShoalError

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Endpoints of a large fleet; a page beyond it is not a metrics page."""
MAX_AGE_S = 5.0
"""A page that a cache on the way has kept for longer tells of the past."""


Params: TypeAlias = Mapping[str, str | Sequence[str]]


class Unavailable(ShoalError):
    """The source did not answer, or not with what was asked for; the message says why."""


def open_client() -> httpx.AsyncClient:
    """For all collectors of a process; whoever opens it closes it.

    Few connections are kept: for each request the pool looks at all it has, so that with those of
    100 workers a look at them took five times as long as with new ones.
    """
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=8)
    return httpx.AsyncClient(limits=limits, trust_env=False, follow_redirects=False)


async def fetch(
    client: httpx.AsyncClient, url: str, *, timeout_s: float,
    headers: Mapping[str, str] | None = None, params: Params | None = None,
) -> bytes:  # fmt: skip
    """The body of a 200. Raises Unavailable."""
    try:
        async with (
            asyncio.timeout(timeout_s),
            client.stream("GET", url, headers=headers, params=params, timeout=timeout_s) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise Unavailable(f"{url} answers {answer.status_code}")
            if _age_s(answer.headers.get("age", "")) > MAX_AGE_S:
                raise Unavailable(f"{url} is an old page from a cache")
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise Unavailable(f"{url} sends more than {MAX_BODY_BYTES >> 20} MiB")
            return bytes(body)
    except TimeoutError:
        raise Unavailable(f"{url} does not answer within {timeout_s:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"{url}: {error or type(error).__name__}") from error


def _age_s(header: str) -> float:
    return float(header) if header.isdecimal() else 0.0
