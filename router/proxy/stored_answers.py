"""Answers that a worker keeps (`/v1/responses/ID`): read, deleted, cancelled where they are.

Which worker made one does not show in its id, and another process of the router may have sent it
there. So all workers that the key may use are asked at once, and the one that knows it answers.
Whole answers only: a stored one is not streamed through the router.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from shoal.errors import BadGateway, MethodNotAllowed, NotFound

from ..access.principal import Principal
from ..core.types import EndpointStatus
from .answers import answer
from .fetch import FetchFailed, fetch
from .fleet_view import FleetEntry

if TYPE_CHECKING:
    from .admission import HeadMemo
    from .exchange import Exchange
    from .gateway import Gateway

_PATH: Final = re.compile(rb"/v1/responses/[\w.:-]{1,256}(/cancel|/input_items)?", re.ASCII)
_METHODS: Final = {b"": "GET, DELETE", b"/cancel": "POST", b"/input_items": "GET"}
_TIMEOUT_S: Final = 10.0
_MAX_ASKED: Final = 256


def is_stored_answer(path: bytes) -> bool:
    """Whether a path names one."""
    return path.startswith(b"/v1/responses/") and _PATH.fullmatch(path) is not None


async def answer_stored(
    gateway: Gateway, exchange: Exchange, memo: HeadMemo, principal: Principal
) -> None:
    """Ask who has it. Raises RequestError."""
    method = exchange.request.method
    match = _PATH.fullmatch(memo.path)
    allow = _METHODS[b"" if match is None else match[1] or b""]
    if method.decode("latin-1") not in allow.split(", "):
        raise MethodNotAllowed(f"A stored answer takes {allow}.", allow=allow)
    entries = [entry for entry in gateway.fleet.entries.values() if _may_have(entry, principal)]
    answers = await asyncio.gather(*(_ask(entry, exchange, memo) for entry in entries[:_MAX_ASKED]))
    told = [found for found in answers if found is not None]
    for status, body in told:
        if status < 400:
            _reply(exchange, status, body)
            return
    for status, body in told:
        if status not in (404, 405, 501):  # it knows the answer, and says what is wrong
            _reply(exchange, status, body)
            return
    if len(told) < len(answers):
        raise BadGateway("Not every worker could be asked for this answer, and no other has it.")
    raise NotFound("No worker has an answer with this id: it was not stored, or is gone.")


def _may_have(entry: FleetEntry, principal: Principal) -> bool:
    if entry.status not in (EndpointStatus.READY, EndpointStatus.DRAINING):
        return False
    return principal.models is None or not principal.models.isdisjoint(entry.endpoint.models)


async def _ask(entry: FleetEntry, exchange: Exchange, memo: HeadMemo) -> tuple[int, bytes] | None:
    """Status and body; None: it did not answer."""
    address, body = entry.pool.address, exchange.request.body
    message = b"%b %b%b%b HTTP/1.1\r\n%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        exchange.request.method,
        address.path_prefix,
        memo.path,
        memo.query,
        address.host_field,
        memo.forwarded,
        exchange.request_id,
        len(body),
        body,
    )
    try:
        return await fetch(entry.pool, message, timeout_s=_TIMEOUT_S)
    except FetchFailed:
        return None


def _reply(exchange: Exchange, status: int, body: bytes) -> None:
    lines = b"x-request-id: %b\r\n" % exchange.request_id
    exchange.reply(answer(status, body, keep_alive=exchange.keep_alive, lines=lines), status)
