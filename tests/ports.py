"""Ports for servers that must be told theirs before they listen."""

from __future__ import annotations

import random
import socket
from typing import Final

# Below those that Linux gives to connections and to whoever asks for port 0 (from 32768 on):
# nobody gets one by chance between the look at it and its use.
_PORTS: Final = range(20_000, 30_000)
_given: Final[set[int]] = set()
_rng: Final = random.SystemRandom()
"""Not `random`'s own, which each test process begins at the same place."""


def free_port() -> int:
    """A port of the loopback that nobody has now; each one once."""
    while True:
        port = _rng.choice(_PORTS)
        if port in _given:
            continue
        _given.add(port)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
