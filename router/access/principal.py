"""Who a request belongs to, and what they may do."""

from __future__ import annotations

from typing import Final, NamedTuple

from shoal.errors import Forbidden


class Principal(NamedTuple):
    """One key, or the bearer of one token. Defaults of the configuration are already in it."""

    key_id: str
    """Name of the key; of a JWT, its subject. What limits count by, and logs name."""
    tenant: str
    """Whom the key belongs to: fairness and usage are counted by it."""
    models: frozenset[str] | None = None
    """Names it may ask for; None: all."""
    requests_per_minute: int = 0
    """0: no limit; so below."""
    tokens_per_minute: int = 0
    max_parallel_requests: int = 0
    priority: int = 0
    """Lower is served first. A request may ask for a higher number than its key's, never lower."""
    weight: float = 1.0
    """Share of its tenant when tenants compete: 2 gets twice the tokens of 1."""


ANONYMOUS: Final = Principal("anonymous", "anonymous")
"""Everybody, when no keys and no tokens are configured."""


def require_model(principal: Principal, model: str) -> None:
    """Raises Forbidden unless the principal may use `model` (the name the client wrote)."""
    if principal.models is not None and model not in principal.models:
        raise Forbidden(
            f"This key may not use the model {model[:256]!r}. It may use: "
            f"{', '.join(sorted(principal.models)) or 'none'}.",
            param="model",
            code="model_not_allowed",
        )
