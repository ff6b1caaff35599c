"""Whether the API server kept what it was sent: what a definition does not know it drops."""

from __future__ import annotations


def holds(whole: object, part: object) -> bool:
    """Whether `whole` has all of `part`, and perhaps more."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and holds(whole[key], value) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(map(holds, whole, part))
    return whole == part
