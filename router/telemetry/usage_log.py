"""The usage log: one JSON object of token counts a request, for billing."""

from __future__ import annotations

import msgspec


class UsageEntry(msgspec.Struct, gc=False):
    ts: float
    """Unix time, seconds."""
    request_id: str
    key_id: str
    tenant: str
    model: str
    prompt: int
    cached: int
    completion: int
    cost: float


class UsageLog:
    def __init__(self, target: str) -> None:
        raise NotImplementedError

    def append(self, entry: UsageEntry) -> None:
        raise NotImplementedError
