"""Install peers and convert the weights for them; what is done already is left as it is.

    python -m shoal.benchmarks.peers.install [PEER ...] [--into .peers]

A peer that cannot be installed is named, the others are installed all the same, and the exit code
is 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from shoal.benchmarks.environment import cpu_features
from shoal.benchmarks.peers.commands import llama_format
from shoal.benchmarks.peers.folder import DEFAULT_ROOT, PeersFolder
from shoal.errors import ShoalError

from . import guidellm, llama_cpp, openvino, routers, vllm, weights
from .steps import Steps


def install_vllm(folder: PeersFolder, steps: Steps) -> None:
    vllm.install(folder, steps)
    weights.make_hf_folder(folder, steps)


def install_llama_cpp(folder: PeersFolder, steps: Steps) -> None:
    llama_cpp.install(folder, steps)
    weights.make_llama_model(folder, steps, number_format=llama_format(cpu_features()))


INSTALLERS: dict[str, Callable[[PeersFolder, Steps], None]] = {
    "vllm": install_vllm,
    "llama.cpp": install_llama_cpp,  # after vLLM, whose environment converts its weights
    "openvino": openvino.install,
    "guidellm": guidellm.install,
    "vllm-router": routers.install_vllm_router,
    "sglang-router": routers.install_sglang_router,
}
SERVERS = ("vllm", "llama.cpp", "openvino")
"""What is installed when nothing is named: the peers of `make bench-peers`."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("peers", nargs="*", metavar="PEER", help=", ".join(INSTALLERS))
    parser.add_argument("--into", type=Path, default=DEFAULT_ROOT, metavar="FOLDER")
    args = parser.parse_args(arguments)
    if unknown := sorted(set(args.peers) - INSTALLERS.keys()):
        parser.error(f"no peer {', '.join(unknown)}; there are {', '.join(INSTALLERS)}")

    folder = PeersFolder(args.into.absolute())
    folder.downloads.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    failed = False
    for name in INSTALLERS:
        if name not in (args.peers or SERVERS):
            continue
        try:
            INSTALLERS[name](folder, Steps(name, folder.logs / f"install-{name}.log", console))
        except ShoalError as error:
            console.print(str(error), style="red", highlight=False, markup=False)
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
