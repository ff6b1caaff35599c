"""Which session a ScaledObject has: made when KEDA first asks, ended when it asks no more.

What is learnt belongs to the ScaledObject and its metadata, so two of them never share a cooldown.
Variants of one policy are ScaledObjects of one namespace that differ in `variant` alone; they share
a session, because their numbers are decided together.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from shoal.clock import Clock
from shoal.errors import ConfigError, NotFound, QueueFull

from ..settings.load import LoadedPolicy, of_spec, parse_spec
from .session import Session

POLICY: Final = "policy"
VARIANT: Final = "variant"
SPEC: Final = "spec"
EXPIRE_S = 900.0
"""KEDA asks every 30 s, the HPA every 15 s."""
SWEEP_EVERY_S = 60.0
MAX_SESSIONS = 256
MAX_SPEC_CHARS = 64 * 1024
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ScaledObject:
    """Who asks, for what."""

    namespace: str
    name: str
    metadata: Mapping[str, str]
    """`triggers[].metadata`: what is not ours is KEDA's."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A variant of a session."""

    session: Session
    variant: str


@dataclass(slots=True)
class _Known:
    session: Session
    used_at: float


class Sessions:
    """Of one process. `run` ends those that nobody asks for; `close` ends all."""

    def __init__(
        self,
        policies: Sequence[LoadedPolicy],
        make: Callable[[str, LoadedPolicy], Session],
        clock: Clock,
    ) -> None:
        """`make` is given the session's name. It raises ConfigError for what cannot be carried
        out."""
        self._policies = {policy.key: policy for policy in policies}
        self._make = make
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def of(self, asks: ScaledObject) -> Asked:
        """The session, started if need be. Raises ConfigError, NotFound and QueueFull."""
        for what, text in (("name", asks.name), ("namespace", asks.namespace)):
            if not _NAME.fullmatch(text):
                raise ConfigError(f"{what}: {text[:64]!r} is no name of a Kubernetes object")
        policy = self._policy_of(asks)
        variant = _variant_of(asks, policy)
        name = _name_of(asks, policy)
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= MAX_SESSIONS:
                raise QueueFull(f"{MAX_SESSIONS} ScaledObjects are served already")
            known = self._known[name] = _Known(self._make(name, policy), 0.0)
            known.session.start()
            _log.info("keda.session_begins", session=name, model=policy.policy.model)
        known.used_at = self._clock.now()
        return Asked(known.session, variant)

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            await self.expire()

    async def expire(self) -> None:
        """End those that nobody has asked for in a while."""
        before = self._clock.now() - EXPIRE_S
        for name in [name for name, known in self._known.items() if known.used_at < before]:
            _log.info("keda.session_ends", session=name)
            await self._known.pop(name).session.close()

    async def close(self) -> None:
        await asyncio.gather(*(known.session.close() for known in self._known.values()))
        self._known.clear()

    def _policy_of(self, asks: ScaledObject) -> LoadedPolicy:
        wanted, text = asks.metadata.get(POLICY, ""), asks.metadata.get(SPEC, "")
        if bool(wanted) == bool(text):
            raise ConfigError(
                f"metadata: either {POLICY}: NAME of the scaler's policies, or {SPEC}: a policy's"
                " spec as YAML"
            )
        if text:
            return _inline(asks, text)
        for key in (wanted, f"{asks.namespace}/{wanted}", f"default/{wanted}"):
            if key in self._policies:
                return self._policies[key]
        there = ", ".join(self._policies) or "none"
        raise NotFound(f"metadata.{POLICY}: no policy {wanted!r}; there are: {there}")


def _inline(asks: ScaledObject, text: str) -> LoadedPolicy:
    """Whoever may write a ScaledObject says how to scale, and not where we send requests."""
    where = f"metadata.{SPEC}"
    if len(text) > MAX_SPEC_CHARS:
        raise ConfigError(f"{where}: longer than {MAX_SPEC_CHARS} characters")
    spec = parse_spec(text, where)
    if spec.router is not None:
        raise ConfigError(
            f"{where}: router: is set where the scaler is started (--router-url), or in its file"
        )
    return of_spec(spec, name=asks.name, namespace=asks.namespace)


def _variant_of(asks: ScaledObject, policy: LoadedPolicy) -> str:
    names = [variant.name for variant in policy.policy.spec.variants]
    wanted = asks.metadata.get(VARIANT, "")
    if not wanted and len(names) == 1:
        return names[0]
    if wanted not in names:
        raise ConfigError(f"metadata.{VARIANT}: {wanted!r} is not one of {', '.join(names)}")
    return wanted


def _name_of(asks: ScaledObject, policy: LoadedPolicy) -> str:
    """What is learnt is kept under this name."""
    if text := asks.metadata.get(SPEC):
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{asks.namespace}/{asks.name}@{digest}"
    if len(policy.policy.spec.variants) > 1:
        return f"{asks.namespace}/@{policy.key}"
    return f"{asks.namespace}/{asks.name}@{policy.key}"
