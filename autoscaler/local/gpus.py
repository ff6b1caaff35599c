"""Which GPUs a worker gets: each its own, by its slot."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from shoal.errors import ConfigError

_QUERY = ("nvidia-smi", "--query-gpu=index", "--format=csv,noheader")
_QUERY_S = 20.0
VISIBLE = "CUDA_VISIBLE_DEVICES"


def find_gpus(environ: Mapping[str, str], query: Sequence[str] = _QUERY) -> tuple[str, ...]:
    """The GPUs we may use, as CUDA names them: those that are visible to us, else all there are."""
    if (visible := environ.get(VISIBLE)) is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip())
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=_QUERY_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(told.stdout.split())


def gpu_slots(gpus: Sequence[str], gpus_per_worker: int) -> list[dict[str, str]]:
    """The environment of each worker that has a place, by slot."""
    count = len(gpus) // gpus_per_worker
    return [
        {VISIBLE: ",".join(gpus[slot * gpus_per_worker : (slot + 1) * gpus_per_worker])}
        for slot in range(count)
    ]


def check_gpus(gpus: Sequence[str], *, gpus_per_worker: int, max_replicas: int | None) -> int:
    """How many workers there may be; `max_replicas` None: as many as there is place for.

    Raises ConfigError when there is no place for so many.
    """
    places = len(gpus) // gpus_per_worker
    found = f"this machine has {len(gpus)} GPUs ({', '.join(gpus) or 'none found'})"
    if places == 0:
        raise ConfigError(f"--gpus-per-worker is {gpus_per_worker}, but {found}")
    if max_replicas is not None and max_replicas > places:
        raise ConfigError(
            f"--max is {max_replicas} workers of {gpus_per_worker} GPUs each, but {found}: "
            f"at most {places}"
        )
    return places if max_replicas is None else max_replicas
