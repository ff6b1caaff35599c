"""How everything but the load itself talks to a server: as the load does, or a run would ask one
server and load another."""

from __future__ import annotations

import ssl
from functools import cache
from typing import TypedDict


class Direct(TypedDict):
    """Options of an httpx client."""

    trust_env: bool
    verify: ssl.SSLContext


def direct() -> Direct:
    """Straight to the server whatever proxies the environment names, by the system's certificates
    (and SSL_CERT_FILE)."""
    return {"trust_env": False, "verify": _system_certificates()}


@cache
def _system_certificates() -> ssl.SSLContext:
    """Reading them takes some 30 ms."""
    return ssl.create_default_context()
