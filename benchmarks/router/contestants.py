"""The routers that are compared.

Peers have the best settings that were found for them; Shoal has everything on that it would have in
production.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from shoal import __version__
from shoal.benchmarks.peers.folder import PeersFolder
from shoal.benchmarks.peers.install.routers import SGLANG_ROUTER, VLLM_ROUTER
from shoal.errors import ConfigError

from . import nginx, rust_routers, shoal_router
from .wish import Wish

DIRECT = "direct"
"""No router: the workers alone."""
SHOAL = "shoal"
VLLM = "vllm-router"
SGLANG = "sglang-router"
NGINX = "nginx"
RUST = (VLLM, SGLANG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One router."""

    name: str
    version: str
    settings: str
    """What a reader must know of how it ran."""
    command: Callable[[Wish], list[str]] | None
    """None: the workers alone."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every request."""
    replaced_by: Literal["successor", "reload", None] = None
    """How it is exchanged for a new one under load: a second process that takes over, or SIGHUP."""


def known(folder: PeersFolder) -> dict[str, Contestant]:
    """All contestants by name, whether they are installed or not."""
    peers = (
        "`round_robin` (for shared prefixes `cache_aware`, threshold 0.8), log level error, health"
        " checks each second, breakers that try again after 2 s"
    )
    everyone = (
        Contestant(name=DIRECT, version="", settings="no router", command=None),
        Contestant(
            name=SHOAL,
            version=__version__,
            settings="one data-plane process, `cost`; keys, limits, metrics, access and usage log",
            command=shoal_router.command,
            headers=shoal_router.AUTHORIZATION,
            replaced_by="successor",
        ),
        Contestant(
            name=VLLM,
            version=_version(VLLM_ROUTER),
            settings=peers,
            command=lambda wish: rust_routers.vllm_router(folder.vllm_router / "bin" / VLLM, wish),
        ),
        Contestant(
            name=SGLANG,
            version=_version(SGLANG_ROUTER),
            settings=peers,
            command=lambda wish: rust_routers.sglang_router(
                folder.sglang_router / "bin" / SGLANG, wish
            ),
        ),
        Contestant(
            name=NGINX,
            version=nginx.version(),
            settings="2 worker processes, round robin, no buffering, no access log",
            command=nginx.command,
            replaced_by="reload",
        ),
    )
    return {contestant.name: contestant for contestant in everyone}


def choose(names: Sequence[str], folder: PeersFolder) -> list[Contestant]:
    """Contestants of these names, in the order of the tables. Raises ConfigError."""
    everyone = known(folder)
    if unknown := sorted(set(names) - everyone.keys()):
        raise ConfigError(f"no router {', '.join(unknown)}; there are {', '.join(everyone)}")
    return [contestant for name, contestant in everyone.items() if name in names]


def why_missing(name: str, folder: PeersFolder) -> str | None:
    """Why a contestant cannot take part; None when it can."""
    if name == NGINX and nginx.program() is None:
        return "not installed (Debian: apt install nginx)"
    place = {VLLM: folder.vllm_router, SGLANG: folder.sglang_router}.get(name)
    if place is not None and not (place / "bin" / name).is_file():
        return f"not installed: python -m shoal.benchmarks.peers.install {name}"
    return None


def _version(requirement: str) -> str:
    return requirement.partition("==")[2]
