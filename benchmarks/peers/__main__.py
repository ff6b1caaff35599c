"""Shoal beside other servers on this machine: the same weights and loads, in turns.

    python -m shoal.benchmarks.peers [--repeats 3] [--quick] [--peers vllm,llama.cpp,openvino]
                                     [--cases c1,c8,c32,offline,prefix,longprompt]

Writes results/peers.json and RESULTS.md after every measurement, so an interrupted run keeps what
it has. The last line printed is JSON. `make bench-peers` installs the peers first. On two cores
without AVX-512 a repeat of everything takes some 25 minutes, with --quick some 8.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from shoal.benchmarks.environment import cpu_features
from shoal.engine.sources.resolve import resolve
from shoal.errors import ConfigError, ShoalError

from . import commands
from .campaign import Campaign
from .commands import Command
from .folder import DEFAULT_ROOT, MODEL, PeersFolder
from .standard_set import STANDARD_SET, choose_cases

PEERS = ("vllm", "llama.cpp", "openvino")
OUT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 when Shoal itself failed; 2 for wrong options; 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m shoal.benchmarks.peers", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--quick", action="store_true", help="smaller loads, not for quoting")
    parser.add_argument("--peers", default=",".join(PEERS), help="default: %(default)s")
    names = ",".join(case.name for case in STANDARD_SET)
    parser.add_argument("--cases", default=names, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER",
                        help="where RESULTS.md and results/peers.json go")  # fmt: skip
    parser.add_argument("--peers-folder", type=Path, default=DEFAULT_ROOT, metavar="FOLDER",
                        help="where the peers are installed")  # fmt: skip
    args = parser.parse_args(arguments)
    try:
        if args.repeats < 1:
            raise ConfigError(f"--repeats {args.repeats}: at least 1")
        cases = choose_cases(_names(args.cases), quick=args.quick)
        chosen = contestants(_names(args.peers), PeersFolder(args.peers_folder.absolute()))
    except ShoalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    campaign = Campaign(
        chosen, cases, repeats=args.repeats, quick=args.quick, model=MODEL, out=args.out,
        console=Console(stderr=True),
    )  # fmt: skip
    code = campaign.run()
    print(json.dumps(campaign.summary()))
    return code


def contestants(peers: Sequence[str], folder: PeersFolder) -> list[Command]:
    """Shoal, in bf16 too, and the named peers. Raises ConfigError for unknown ones, ModelError."""
    if unknown := sorted(set(peers) - set(PEERS)):
        raise ConfigError(f"no peer {', '.join(unknown)}; there are {', '.join(PEERS)}")
    features = cpu_features()
    known: dict[str, Command] = {
        "vllm": commands.vllm(folder, features=features),
        "llama.cpp": commands.llama_cpp(folder, features=features),
        "openvino": commands.openvino(folder, resolve(MODEL).path),
    }
    ours = [commands.shoal(), commands.shoal(bf16=True)]
    return [*ours, *(known[name] for name in PEERS if name in peers)]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    sys.exit(main())
