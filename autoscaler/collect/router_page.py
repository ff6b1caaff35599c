"""What a router's admin API says of one model: its metrics page, and its endpoints. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from shoal import metrics as names
from shoal.metrics_page import has_family, samples_of

from .buckets import counts_of

ARRIVALS: Final = "arrivals"
FAMILIES: Final = (
    names.ROUTER_ARRIVALS,
    names.ROUTER_MODEL_QUEUED_REQUESTS,
    names.ROUTER_HELD_REQUESTS,
    names.ROUTER_STREAM_TIME_TO_FIRST_TOKEN,
)
"""Asked for by name: the whole page of a router of many models is half a megabyte."""
_TAKES_OR_FINISHES = frozenset({"ready", "draining"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterPage:
    """One router, now."""

    counts: dict[str, float]
    """Arrivals, and the first tokens of streams by time."""
    queued: int
    held: int


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Of the router, one entry of `GET /admin/endpoints`; what else it has is left out."""

    url: str
    models: list[str] = []
    labels: dict[str, str] = {}
    status: str = ""

    @property
    def is_ready(self) -> bool:
        return self.status == "ready"

    def serves(self, model: str) -> bool:
        """Whether requests to the model run there."""
        return model in self.models and self.status in _TAKES_OR_FINISHES


class _Endpoints(msgspec.Struct):
    endpoints: list[Endpoint]


_decode_endpoints = msgspec.json.Decoder(_Endpoints).decode


def read_router(page: bytes, model: str) -> RouterPage | None:
    """None: this is not the page of a router. A model nobody has asked for yet has zeros."""
    if not has_family(page, names.ROUTER_ARRIVALS):
        return None
    arrivals = _sum(page, names.ROUTER_ARRIVALS, model)
    bucket = f"{names.ROUTER_STREAM_TIME_TO_FIRST_TOKEN}_bucket"
    first_tokens = samples_of(page, bucket, model=model)
    return RouterPage(
        counts={ARRIVALS: arrivals, **counts_of(first_tokens)},
        queued=int(_sum(page, names.ROUTER_MODEL_QUEUED_REQUESTS, model)),
        held=int(_sum(page, names.ROUTER_HELD_REQUESTS, model)),
    )


def read_endpoints(body: bytes) -> list[Endpoint]:
    """Raises msgspec.MsgspecError when it is not the answer of a router."""
    return _decode_endpoints(body).endpoints


def _sum(page: bytes, name: str, model: str) -> float:
    return sum(sample.value for sample in samples_of(page, name, model=model))
