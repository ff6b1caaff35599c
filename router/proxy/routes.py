"""Which paths are whose: the router's own, the workers', nobody's.

Only what serves clients passes. The operators' routes of workers (sleep, weights, adapters, cache
resets, profiles) do not: they are reached on the worker itself.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class Route(Enum):
    """What happens to a request."""

    WORKER = "worker"
    MODELS = "models"
    PROBE = "probe"
    NONE = "none"


_PROBES: Final = frozenset({b"/health", b"/ready", b"/ping", b"/version"})

_NATIVE: Final = frozenset(
    {
        b"/tokenize",
        b"/detokenize",
        b"/generate",
        b"/pooling",
        b"/classify",
        b"/score",
        b"/rerank",
        b"/encode",
        b"/inference/v1/generate",
        b"/v2/rerank",
    }
)
"""Of vLLM and SGLang, beside /v1."""

_V1_NOT_PASSED: Final = (b"/v1/load_lora_adapter", b"/v1/unload_lora_adapter", b"/v1/loads")


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Path and query (with its "?") of a request target in origin form, or in absolute form.

    A fragment has no place in it, and makes it a path that nobody has.
    """
    if not target.startswith(b"/"):
        _, _, rest = target.partition(b"://")
        slash = rest.find(b"/")
        target = rest[slash:] if slash >= 0 else b"/"
    if b"#" in target:
        return target, b""
    path, mark, query = target.partition(b"?")
    return path, mark + query


def route(path: bytes) -> Route:
    """Whose a path is. Escapes, dots, doubled slashes and fragments are nobody's: a worker might
    read them otherwise."""
    if path == b"/v1/models" or path.startswith(b"/v1/models/"):
        return Route.MODELS
    if b"//" in path or b"/." in path or b"%" in path or b"\\" in path or b"#" in path:
        return Route.NONE
    if path.startswith(b"/v1/"):
        return Route.NONE if path in _V1_NOT_PASSED else Route.WORKER
    if path in _NATIVE:
        return Route.WORKER
    return Route.PROBE if path in _PROBES else Route.NONE
