"""GuideLLM, a load generator that ours is held against. Its torch must be the CPU build."""

from __future__ import annotations

from shoal.benchmarks.peers.folder import PeersFolder

from . import environment
from .steps import Steps
from .vllm import TORCH

WANTED = ("guidellm==0.8.1", TORCH)


def install(folder: PeersFolder, steps: Steps) -> None:
    """Raises InstallFailed. Done when the environment's stamp names these versions."""
    if environment.is_installed(folder.guidellm, WANTED):
        steps.say("installed")
        return
    pip = environment.make(folder.guidellm, steps)
    steps.run("installing", [*pip, "install", *WANTED])
    environment.mark_installed(folder.guidellm, WANTED)
