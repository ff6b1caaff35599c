"""As many requests as the router takes, from the client in C."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ..programs import BenchFailed

GRACE_S = 20.0


class SaturationOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What `load_client` prints."""

    requests: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_s: float
    """Of the client itself."""


def saturate(
    program: Path,
    ports: Sequence[int],
    request: bytes,
    *,
    num_connections: int,
    duration_s: float,
    folder: Path,
) -> SaturationOutcome:
    """Raises BenchFailed when the client breaks."""
    path = folder / "request.http"
    path.write_bytes(request)
    argv = [
        str(program), "--ports", ",".join(map(str, ports)), "--connections", str(num_connections),
        "--seconds", str(duration_s), "--request", str(path),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            argv, capture_output=True, timeout=duration_s + GRACE_S, check=True, text=True
        )
        return msgspec.json.decode(done.stdout, type=SaturationOutcome)
    except (subprocess.SubprocessError, msgspec.DecodeError) as error:
        raise BenchFailed(f"{program.name}: {error}") from None
