"""Contestants for tests: real processes, no model."""

from __future__ import annotations

import sys
from pathlib import Path

from shoal.benchmarks.peers.commands import OfflineCommand, ServerCommand

FAKE_SERVER = Path(__file__).with_name("fake_openai.py")

FAKE_OFFLINE = """
import json
print("loading", flush=True)
print(json.dumps({"load_s": 0.5, "version": "1"}), flush=True)
print(json.dumps({"wall_s": 2.0, "output_tokens": 64, "output_tokens_per_s": 32.0}), flush=True)
"""


def fake_server(name: str, *, extra_tokens: int = 0) -> ServerCommand:
    argv = [sys.executable, str(FAKE_SERVER), "{port}", str(extra_tokens)]
    return ServerCommand(name=name, argv=argv, version="1", settings="a fake")


def broken_server(name: str) -> ServerCommand:
    """Says why, and ends."""
    program = "import sys; sys.exit('no room for the weights')"
    argv = [sys.executable, "-c", program]
    return ServerCommand(name=name, argv=argv, version="1", settings="a fake")


def offline_program(name: str, program: str = FAKE_OFFLINE) -> OfflineCommand:
    argv = [sys.executable, "-c", program]
    return OfflineCommand(name=name, argv=argv, version="1", settings="a fake")
