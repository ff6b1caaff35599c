"""Several autoscalers: one scales, the next takes over, and each ends as it should."""

from __future__ import annotations

import signal
from pathlib import Path

import yaml

from .cluster.api import Api, ApiError, at
from .cluster.autoscalers import LEASE, Autoscaler, Autoscalers, events, until_condition
from .cluster.eventually import eventually
from .cluster.fake_kubelet import FakeKubelet
from .cluster.fake_router import FakeRouter
from .cluster.policies import create_policy, policy
from .cluster.scaled import until_replicas
from .cluster.workloads import create_deployment

TAKE_OVER_S = 60.0
"""A lease lasts 15 s."""


async def holder(api: Api, namespace: str) -> str:
    """Of the lease; empty: nobody."""
    try:
        lease = await api.get(at("leases", namespace, LEASE))
    except ApiError:
        return ""
    return str(lease["spec"].get("holderIdentity") or "")


async def until_elected(autoscalers: list[Autoscaler], timeout_s: float = 30.0) -> Autoscaler:
    """Waits for one that has been elected, of those that run."""

    def look() -> Autoscaler | None:
        return next(
            (
                each
                for each in autoscalers
                if not each.program.has_ended and "leader.elected" in each.program.said()
            ),
            None,
        )

    return await eventually(look, "a leader", timeout_s)


async def ended(autoscaler: Autoscaler) -> int:
    """Its exit status."""
    await eventually(lambda: autoscaler.program.has_ended, "its end")
    return autoscaler.program.ended()


async def test_one_of_two_scales_and_hands_over_when_it_is_told_to_end(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m")
    await create_policy(api, namespace, "m", router=router.url)
    both = [autoscalers.start() for _ in range(2)]
    leader = await until_elected(both)
    (other,) = [each for each in both if each is not leader]
    router.set_rate(5)
    await until_replicas(api, namespace, 1, 8)
    assert "leader.elected" not in other.program.said()
    assert await other.num_decisions() == 0
    leader.program.signal(signal.SIGTERM)
    assert await ended(leader) == 0
    await until_elected([other])
    router.set_rate(40)
    await until_replicas(api, namespace, 4, 8)
    other.program.signal(signal.SIGTERM)
    assert await ended(other) == 0
    assert await holder(api, namespace) == ""


async def test_the_next_takes_over_from_one_that_was_killed(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m")
    await create_policy(api, namespace, "m", router=router.url)
    both = [autoscalers.start() for _ in range(2)]
    leader = await until_elected(both)
    before = await holder(api, namespace)
    leader.program.kill()
    (other,) = [each for each in both if each is not leader]
    router.set_rate(30)
    await until_elected([other], TAKE_OVER_S)
    await until_replicas(api, namespace, 3, 8)
    assert await holder(api, namespace) not in ("", before)


async def test_policies_of_a_file(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers,
    tmp_path: Path,
) -> None:  # fmt: skip
    await kubelet.add_node(8)
    await create_deployment(api, namespace, "m")
    document = policy("m", router=router.url)
    document["metadata"]["namespace"] = namespace
    file = tmp_path / "policies.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    autoscalers.start("--file", str(file))
    router.set_rate(30)
    await until_replicas(api, namespace, 3, 8)

    async def told() -> bool:
        scaled = await events(api, namespace, "Scaled")
        return any(event["involvedObject"]["kind"] == "Deployment" for event in scaled)

    await eventually(told, "an Event about the target")


async def test_without_election_it_scales_at_once(
    api: Api, namespace: str, kubelet: FakeKubelet, router: FakeRouter, autoscalers: Autoscalers
) -> None:
    await create_deployment(api, namespace, "m")
    await create_policy(api, namespace, "m", router=router.url)
    autoscalers.start("--no-leader-elect")
    await until_condition(api, namespace, "Ready", "True", "Deciding")
    assert await holder(api, namespace) == ""
