from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.router.control.child import Timing

FAKE_PROXY = (sys.executable, str(Path(__file__).with_name("fake_proxy.py")))
FAST = Timing(
    ready_s=60.0, stalled_s=30.0, ping_interval_s=0.05, grace_s=0.3, first_delay_s=0.01,
    max_delay_s=0.05,
)  # fmt: skip
"""With patience for what only a busy machine makes slow."""


@pytest.fixture(autouse=True)
def _runtime_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Takeover sockets of these tests alone; short, for Unix socket paths have 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="shoal-test-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield
