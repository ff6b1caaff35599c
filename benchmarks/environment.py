"""What a figure was measured on: recorded with every result."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path


def environment() -> dict[str, str | int | None]:
    """Machine, versions, commit and command, as one flat mapping."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "commit": _commit(),
        "command": " ".join(["python", "-m", *_module(), *sys.argv[1:]]),
    }


def _module() -> list[str]:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return [spec.name.removesuffix(".__main__")] if spec else [sys.argv[0]]


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    fields: dict[str, str] = {}
    if info.exists():
        for line in info.read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    model = fields.get("model name") or platform.processor() or "unknown"
    features = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in
                fields.get("flags", "").split()]  # fmt: skip
    return f"{model} family {fields.get('cpu family', '?')} model {fields.get('model', '?')}" + (
        f" ({', '.join(features)})" if features else ""
    )


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.strip() or None
