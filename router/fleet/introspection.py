"""What a worker answers about itself, decoded: models, adapters, engine, KV events. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ..core.types import EngineKind

MAX_MODELS = 10_000
_OWNERS = {
    "shoal": EngineKind.SHOAL,
    "vllm": EngineKind.VLLM,
    "sglang": EngineKind.SGLANG,
}


class _Card(msgspec.Struct):
    id: str
    owned_by: str | None = None
    parent: str | None = None
    """The base model, on the card of a LoRA adapter (vLLM, SGLang)."""


class _Cards(msgspec.Struct):
    data: list[_Card]


class _KVEventSources(msgspec.Struct):
    enable_kv_cache_events: bool = False
    endpoint: str | None = None
    replay_endpoint: str | None = None
    block_size: int = 0


class Models(NamedTuple):
    """What /v1/models says."""

    names: tuple[str, ...]
    """All that can be asked for, adapters included; never empty."""
    adapters: tuple[str, ...]
    engine: EngineKind | None
    """By the owner of its cards; None: it does not tell."""


class KVEventSource(NamedTuple):
    """Where a worker publishes KV events, as it says itself: hosts may be wildcards."""

    endpoint: str
    replay_endpoint: str | None
    block_size: int
    """0: shown by the events."""


_cards = msgspec.json.Decoder(_Cards)
_sources = msgspec.json.Decoder(_KVEventSources)
_by_rank = msgspec.json.Decoder(dict[str, _KVEventSources])


def decode_models(body: bytes) -> Models | None:
    """None: no model list, or an empty one: it has not loaded its model yet."""
    try:
        cards = _cards.decode(body).data
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    cards = [card for card in cards if card.id][:MAX_MODELS]
    if not cards:
        return None
    names = tuple(dict.fromkeys(card.id for card in cards))
    adapters = tuple(dict.fromkeys(card.id for card in cards if card.parent))
    owners = [_OWNERS.get((card.owned_by or "").lower()) for card in cards]
    return Models(names, adapters, next((owner for owner in owners if owner), None))


def decode_kv_event_source(body: bytes) -> KVEventSource | None:
    """Answer of GET /kv_event_sources; None: it publishes none, or says so in no way we know.

    vLLM tells by data-parallel rank: {"0": {...}}. One rank is followed; of several each has a
    cache of its own behind the one address, and which gets a request is not for us to say.
    """
    try:
        told = _sources.decode(body)
        if not told.enable_kv_cache_events:
            ranks = [source for _, source in sorted(_by_rank.decode(body).items())]
            told = ranks[0] if len(ranks) == 1 else told
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not told.enable_kv_cache_events or not told.endpoint:
        return None
    return KVEventSource(told.endpoint, told.replay_endpoint or None, max(0, told.block_size))


def engine_of_page(page: bytes) -> EngineKind | None:
    """By the names on a metrics page. Shoal exports vLLM's names, and some of its own."""
    if b"\nshoal:" in page:
        return EngineKind.SHOAL
    if b"\nsglang:" in page:
        return EngineKind.SGLANG
    if b"\nvllm:" in page:
        return EngineKind.VLLM
    return None
