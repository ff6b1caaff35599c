"""OpenVINO GenAI, which reads the GGUF file itself."""

from __future__ import annotations

from shoal.benchmarks.peers.folder import PeersFolder

from . import environment
from .steps import Steps

WANTED = ("openvino-genai==2026.4.1.0", "openvino-tokenizers==2026.4.1.0")


def install(folder: PeersFolder, steps: Steps) -> None:
    """Raises InstallFailed. Done when the environment's stamp names these versions."""
    if environment.is_installed(folder.openvino, WANTED):
        steps.say("installed")
        return
    pip = environment.make(folder.openvino, steps)
    steps.run("installing", [*pip, "install", *WANTED])
    environment.mark_installed(folder.openvino, WANTED)
