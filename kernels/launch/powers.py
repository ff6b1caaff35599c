"""Tiles have sides that are powers of two."""

from __future__ import annotations


def next_power_of_two(n: int) -> int:
    """The smallest power of two that is at least n; 1 for n < 1."""
    return 1 << max(n - 1, 0).bit_length()
