"""`/v1/models`."""

from __future__ import annotations

import msgspec


class ModelCard(msgspec.Struct, kw_only=True):
    """One model that can be asked for."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "shoal"
    root: str
    max_model_len: int


class ModelList(msgspec.Struct, kw_only=True):
    """All of them."""

    object: str = "list"
    data: list[ModelCard]
