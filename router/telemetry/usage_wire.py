"""The usage objects of the known APIs, in one. Apart from `usage.py`, which is compiled."""

from __future__ import annotations

import msgspec


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class UsageWire(msgspec.Struct, gc=False):
    """What it may say; what it does not is None."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cached_tokens: int | None = None


decode_usage = msgspec.json.Decoder(UsageWire).decode
"""Raises msgspec.MsgspecError."""
