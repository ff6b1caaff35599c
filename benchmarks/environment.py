"""What a figure was measured on: recorded with every result."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from shoal import __version__

NAMED_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Those that decide which number format is fast."""

SECRET_OPTIONS = frozenset({"--api-key"})
HIDDEN = "HIDDEN"


def environment() -> dict[str, str | int | float | None]:
    """Machine, versions, commit and command, as one flat mapping."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "gpu": _gpu(),
        "os": _os(),
        "shoal": __version__,
        "torch": _version_of("torch"),
        "python": platform.python_version(),
        "commit": _commit(),
        "command": shlex.join([*_program(), *_without_secrets(sys.argv[1:])]),
    }


def _program() -> list[str]:
    """`python -m package` or, for an installed script, its name without the folder."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None:
        return [Path(sys.argv[0]).name]
    return ["python", "-m", spec.name.removesuffix(".__main__")]


def _without_secrets(arguments: Sequence[str]) -> list[str]:
    """The arguments with the values of `SECRET_OPTIONS` hidden: results are passed around."""
    shown: list[str] = []
    for argument in arguments:
        option, equals, _ = argument.partition("=")
        if shown and shown[-1] in SECRET_OPTIONS:
            shown.append(HIDDEN)
        elif equals and option in SECRET_OPTIONS:
            shown.append(f"{option}={HIDDEN}")
        else:
            shown.append(argument)
    return shown


def _cpu_model() -> str:
    fields = _cpu_fields()
    model = fields.get("model name") or platform.processor() or "unknown"
    features = [feature for feature in NAMED_FEATURES if feature in cpu_features()]
    return f"{model} family {fields.get('cpu family', '?')} model {fields.get('model', '?')}" + (
        f" ({', '.join(features)})" if features else ""
    )


def cpu_features() -> frozenset[str]:
    """Instruction sets by Linux's names, e.g. `avx2`; empty where the system does not say."""
    return frozenset(_cpu_fields().get("flags", "").split())


def _cpu_fields() -> dict[str, str]:
    """Of the first processor in /proc/cpuinfo."""
    info = Path("/proc/cpuinfo")
    fields: dict[str, str] = {}
    if info.exists():
        for line in info.read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    return fields


def _memory_gib() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1)


def _os() -> str:
    """Kernel and distribution."""
    try:
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        distribution = ""
    return ", ".join(part for part in (f"{platform.system()} {platform.release()}", distribution)
                     if part)  # fmt: skip


def _gpu() -> str | None:
    """Names of the NVIDIA devices; None without any."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ", ".join(done.stdout.split("\n")).strip(", ") or None if done.returncode == 0 else None


def _version_of(distribution: str) -> str | None:
    """Without importing it: torch takes seconds."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Of the sources, `-dirty` when any were edited since; None for an installed package (whatever
    repository its environment lies in), and where there is no git."""
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return _git("describe", "--always", "--dirty", "--exclude=*")


def _git(*arguments: str) -> str | None:
    """What git says of the folder of this file; None when it fails or is not there."""
    here = str(Path(__file__).resolve().parent)
    command = ["git", "--no-optional-locks", "-C", here, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
