"""The two routers in Rust that PyPI carries as wheels: vllm-router and sglang-router."""

from __future__ import annotations

from pathlib import Path

from shoal.benchmarks.peers.folder import PeersFolder

from . import environment
from .steps import Steps

VLLM_ROUTER = "vllm-router==0.1.17"
SGLANG_ROUTER = "sglang-router==0.3.2"


def install_vllm_router(folder: PeersFolder, steps: Steps) -> None:
    """Raises InstallFailed. Done when the environment's stamp names this version."""
    _install(folder.vllm_router, VLLM_ROUTER, steps)


def install_sglang_router(folder: PeersFolder, steps: Steps) -> None:
    """Raises InstallFailed. Done when the environment's stamp names this version."""
    _install(folder.sglang_router, SGLANG_ROUTER, steps)


def _install(place: Path, requirement: str, steps: Steps) -> None:
    if environment.is_installed(place, [requirement]):
        steps.say("installed")
        return
    pip = environment.make(place, steps)
    steps.run("installing", [*pip, "install", requirement])
    environment.mark_installed(place, [requirement])
