"""Waiting for numbers of replicas and pods."""

from __future__ import annotations

from .api import Api, at
from .eventually import eventually
from .workloads import pod_names


async def replicas_of(
    api: Api, namespace: str, name: str = "m", plural: str = "deployments"
) -> int:
    """`spec.replicas`."""
    replicas: int = (await api.get(at(plural, namespace, name)))["spec"]["replicas"]
    return replicas


async def until_replicas(
    api: Api, namespace: str, least: int, most: int, name: str = "m", plural: str = "deployments"
) -> int:
    """Waits until a target has between `least` and `most` replicas; how many."""
    last = [-1]

    async def look() -> bool:
        last[0] = await replicas_of(api, namespace, name, plural)
        return least <= last[0] <= most

    await eventually(look, f"{least} to {most} replicas of {name}")
    return last[0]


async def until_ready(api: Api, namespace: str, num_pods: int) -> None:
    """Waits until so many pods of the namespace are Ready, no more and no less."""

    async def look() -> bool:
        return len(await pod_names(api, namespace, ready=True)) == num_pods

    await eventually(look, f"{num_pods} Ready pods")
