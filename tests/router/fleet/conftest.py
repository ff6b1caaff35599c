from __future__ import annotations

import ssl
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def no_system_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker here speaks TLS, and reading the system's takes longer than most tests."""

    def nothing(self: ssl.SSLContext, *_: Any) -> None:
        return None

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", nothing)
