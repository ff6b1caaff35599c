"""Shoal's router beside vllm-router, sglang-router and nginx, in turns on this machine.

    python -m shoal.benchmarks.router [--repeats 3] [--quick] [--only CASE,...] [--routers NAME,...]

Writes results/router.json and its section of RESULTS.md (not with --only, unless --out is given);
the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from shoal.benchmarks.peers.folder import DEFAULT_ROOT, PeersFolder
from shoal.errors import ConfigError, ShoalError

from .campaign import Campaign
from .contestants import choose, known, why_missing
from .programs import compile_programs
from .standard_set import STANDARD_SET, choose_cases

OUT = Path(__file__).resolve().parents[1]
SOAK_MINUTES = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 when Shoal itself failed; 2 for wrong options; 130 after Ctrl-C."""
    args = parse(arguments)
    # So that every process we started ends with us; a shell's background jobs ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(stderr=True)
    folder = PeersFolder(args.peers_folder.absolute())
    try:
        cases = choose_cases(_names(args.only))
        wanted = choose(_names(args.routers) or list(known(folder)), folder)
        if args.repeats < 1:
            raise ConfigError(f"--repeats {args.repeats}: at least 1")
        programs = compile_programs(folder.router_programs)
    except ShoalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    reasons = {who.name: why_missing(who.name, folder) for who in wanted}
    left_out = {name: reason for name, reason in reasons.items() if reason is not None}
    for name, reason in left_out.items():
        console.print(f"{name} is left out: {reason}", style="yellow", highlight=False)
    whole = not (args.only or args.routers)
    campaign = Campaign(
        [who for who in wanted if who.name not in left_out],
        cases,
        programs=programs,
        repeats=args.repeats,
        quick=args.quick,
        soak_minutes=(0.0 if args.quick else SOAK_MINUTES)
        if args.soak_minutes is None
        else args.soak_minutes,
        left_out=left_out,
        out=args.out or (OUT if whole else None),
        console=console,
    )
    code = campaign.run()
    print(json.dumps(campaign.summary()))
    return code


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m shoal.benchmarks.router", description=(__doc__ or "").splitlines()[0]
    )
    cases = ", ".join(case.name for case in STANDARD_SET)
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--quick", action="store_true", help="smaller, shorter, not for quoting")
    parser.add_argument("--only", default="", metavar="CASE,...", help=f"of {cases}")
    parser.add_argument("--routers", default="", metavar="NAME,...", help="default: all")
    parser.add_argument("--soak-minutes", type=float, metavar="N",
                        help=f"default: {SOAK_MINUTES:g}, with --quick 0")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FOLDER",
                        help="where RESULTS.md and results/router.json go")  # fmt: skip
    parser.add_argument("--peers-folder", type=Path, default=DEFAULT_ROOT, metavar="FOLDER",
                        help="where the peers are installed")  # fmt: skip
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _interrupt(number: int, frame: FrameType | None) -> None:
    """As Ctrl-C does, which asyncio turns into an orderly end of the load that runs."""
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
