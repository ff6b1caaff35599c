"""ScalingPolicies as objects of Kubernetes, and what of their spec can be used here. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from shoal.errors import ConfigError

from ..policy import Mode
from ..settings.documents import API_VERSION, KIND, RouterSettings
from ..settings.load import LoadedPolicy, decode_spec, of_spec
from ..settings.router_key import ROUTER_KEY
from .conditions import Problem
from .events import Regarding
from .kserve import workloads_of
from .resources import Reference

KEY_PREFIX = ROUTER_KEY
"""Variables that a policy may name. Any other would let its author read our environment: its value
is sent to the router that the policy names."""
_NEVER = datetime.max.replace(tzinfo=UTC)


class PolicyMetadata(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: datetime | None = None


class PolicyObject(msgspec.Struct):
    """As the API server has it; its spec may be wrong."""

    metadata: PolicyMetadata
    spec: Any = None
    status: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """A policy with all that is needed to carry it out."""

    loaded: LoadedPolicy
    targets: dict[str, Reference]
    """By variant."""
    router_urls: tuple[str, ...]
    key_env: str | None
    regarding: Regarding | None = None
    """The object that events are about; None: the policy is of a file, its targets stand for it."""
    generation: int = 0
    created: datetime = _NEVER

    @property
    def key(self) -> str:
        return self.loaded.key


def regarding_of(found: PolicyObject) -> Regarding:
    metadata = found.metadata
    return Regarding(
        api_version=API_VERSION, kind=KIND, namespace=metadata.namespace, name=metadata.name,
        uid=metadata.uid,
    )  # fmt: skip


def of_object(found: PolicyObject, default_router: RouterSettings | None) -> Scaled:
    """Raises ConfigError: what is wrong, where, and what is allowed."""
    metadata = found.metadata
    spec = decode_spec(found.spec if found.spec is not None else {})
    loaded = of_spec(spec, name=metadata.name, namespace=metadata.namespace)
    made = of_loaded(loaded, default_router)
    key_env = loaded.router.key_env if loaded.router is not None else None
    if key_env is not None and not key_env.startswith(KEY_PREFIX):
        raise ConfigError(
            f"spec.router.keyEnv: {key_env!r} must begin with {KEY_PREFIX}: others of the"
            " autoscaler's variables are not for policies"
        )
    return replace(
        made,
        regarding=regarding_of(found),
        generation=metadata.generation,
        created=metadata.creation_timestamp or made.created,
    )


def of_loaded(loaded: LoadedPolicy, default_router: RouterSettings | None) -> Scaled:
    """Raises ConfigError."""
    router = loaded.router or default_router
    if router is None:
        raise ConfigError(
            "spec.router: missing; name the router's admin API, or start with --router"
        )
    for variant in loaded.policy.spec.variants:
        if variant.name not in loaded.targets:
            raise ConfigError(
                f"spec.variants: {variant.name!r} has no target; in Kubernetes each variant needs"
                " one: {kind: Deployment, name: ...}"
            )
    targets = {
        variant: Reference(target.api_version, target.kind, loaded.namespace, target.name)
        for variant, target in loaded.targets.items()
    }
    return Scaled(
        loaded=loaded, targets=targets, router_urls=(router.url, *router.more_urls),
        key_env=router.key_env,
    )  # fmt: skip


def taken(policies: list[Scaled]) -> dict[str, Problem]:
    """By policy: the target that an older policy, or another variant of it, has already.

    Two that scale one object would fight without end. One that only advises harms nobody.
    """
    owners: dict[Reference, str] = {}
    problems: dict[str, Problem] = {}
    scaling = [policy for policy in policies if policy.loaded.policy.mode is Mode.AUTO]
    for policy in sorted(scaling, key=lambda policy: (policy.created, policy.key)):
        claimed: set[Reference] = set()
        for target in policy.targets.values():
            for workload in workloads_of(target):
                owner = owners.get(workload)
                if owner is not None:
                    text = f"spec.variants: {target} is scaled by the policy {owner} already"
                    problems.setdefault(policy.key, Problem("TargetTaken", text))
                elif workload in claimed:
                    text = f"spec.variants: {target} is the target of two variants"
                    problems.setdefault(policy.key, Problem("TargetTaken", text))
                claimed.add(workload)
        if policy.key not in problems:
            owners |= dict.fromkeys(claimed, policy.key)
    return problems
