"""Routes that the router answers itself: probes, and the list of models."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec

import shoal
from shoal.errors import NotFound

from ..access.principal import Principal
from .answers import answer

if TYPE_CHECKING:
    from .exchange import Exchange
    from .gateway import Gateway

_STARTED_AT = int(time.time())


class RoutedModel(msgspec.Struct, kw_only=True):
    """One model that can be asked for."""

    id: str
    object: str = "model"
    created: int = _STARTED_AT
    owned_by: str = "shoal-router"


class RoutedModels(msgspec.Struct, kw_only=True):
    """All of them."""

    object: str = "list"
    data: list[RoutedModel]


def answer_probe(gateway: Gateway, exchange: Exchange, path: bytes) -> None:
    """Health of this process; readiness: whether it takes requests."""
    if path == b"/version":
        body = msgspec.json.encode({"version": shoal.__version__})
        _reply(exchange, 200, body)
    elif path == b"/ready" and gateway.is_draining:
        _reply(exchange, 503, b'{"status":"draining"}')
    else:
        _reply(exchange, 200, b'{"status":"ok"}')


def answer_models(gateway: Gateway, exchange: Exchange, path: bytes, principal: Principal) -> None:
    """The names a client may ask for: those workers serve, and those the configuration adds.

    Raises NotFound.
    """
    names = sorted(set(gateway.fleet.models) | set(gateway.configured_models))
    if principal.models is not None:
        names = [name for name in names if name in principal.models]
    wanted = unquote(path.removeprefix(b"/v1/models").removeprefix(b"/").decode("latin-1"))
    if not wanted:
        _reply(
            exchange,
            200,
            msgspec.json.encode(RoutedModels(data=[RoutedModel(id=name) for name in names])),
        )
    elif wanted in names:
        _reply(exchange, 200, msgspec.json.encode(RoutedModel(id=wanted)))
    else:
        raise NotFound(
            f"There is no model {wanted[:256]!r} here. See /v1/models.",
            param="model",
            code="model_not_found",
        )


def _reply(exchange: Exchange, status: int, body: bytes) -> None:
    exchange.reply(
        answer(
            status,
            body,
            keep_alive=exchange.keep_alive,
            lines=b"x-request-id: %b\r\n" % exchange.request_id,
        ),
        status,
    )
