"""KEDA's call sequence, by a real gRPC client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shoal.autoscaler.keda.service import METRIC
from shoal.autoscaler.keda.sessions import EXPIRE_S, MAX_SESSIONS
from shoal.autoscaler.policy import Mode
from tests.autoscaler.collect.fleet import FakeWorker, Fleet
from tests.autoscaler.keda.scaler import Keda, Scaler, keda, make_policy, serving

Code = grpc.StatusCode


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
async def scaler(fleet: Fleet) -> AsyncIterator[Scaler]:
    async with serving(fleet) as scaler:
        yield scaler


@pytest.fixture
async def client(scaler: Scaler) -> AsyncIterator[Keda]:
    async with keda(scaler) as client:
        yield client


async def refused(call: Any) -> tuple[Any, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


async def next_of(stream: Any) -> bool:
    async with asyncio.timeout(10):
        return bool((await stream.read()).result)


async def test_from_the_first_call_to_a_number(scaler: Scaler, client: Keda, fleet: Fleet) -> None:
    fleet.workers["http://w1"] = FakeWorker()
    # KEDA makes the HPA, then asks: nothing is known yet, and that is not 0.
    assert await client.metric_spec() == (METRIC, 1.0)
    assert (await refused(client.is_active()))[0] is Code.UNAVAILABLE
    assert (await refused(client.metric()))[0] is Code.UNAVAILABLE
    await scaler.decide()
    fleet.router.arrivals = 10
    await scaler.decide()
    # What the scaler before this one has asked for may be starting: no less is told for a while.
    code, why = await refused(client.metric())
    assert (code, "begun a moment ago" in why) == (Code.UNAVAILABLE, True)
    fleet.router.arrivals = 60
    await scaler.decide(after_s=30.0)
    assert await client.metric() == 1.0
    assert await client.is_active()
    # A load of 200 requests a second, each 0.0356 s of a replica's time until it is learnt better.
    fleet.router.arrivals += 1000
    await scaler.decide()
    [(_, session)] = scaler.made.items()
    assert await client.metric() == session.replicas("default") > 1
    assert await client.is_active()


async def test_no_data_is_an_error_and_never_zero(
    scaler: Scaler, client: Keda, fleet: Fleet
) -> None:
    fleet.workers["http://w1"] = FakeWorker()
    for _ in range(3):
        await scaler.decide(after_s=15.0)
        fleet.router.arrivals += 10
    assert await client.metric() == 1.0
    fleet.router.fails = True
    await scaler.decide()
    code, why = await refused(client.metric())
    assert (code, why) == (Code.UNAVAILABLE, "the router, or its workers, cannot be read")
    assert (await refused(client.is_active()))[0] is Code.UNAVAILABLE
    fleet.router.fails = False
    await scaler.decide()
    assert await client.metric() == 1.0


async def test_a_decision_of_long_ago_says_nothing(
    scaler: Scaler, client: Keda, fleet: Fleet
) -> None:
    fleet.workers["http://w1"] = FakeWorker()
    for _ in range(3):
        await scaler.decide()
    scaler.clock.advance(3600.0)
    code, why = await refused(client.metric())
    assert (code, why) == (Code.UNAVAILABLE, "the last decision is 3600 s old")


async def test_to_zero_and_back_the_moment_somebody_asks(
    scaler: Scaler, client: Keda, fleet: Fleet
) -> None:
    fleet.workers["http://w1"] = FakeWorker()
    fleet.router.arrivals = 1
    stream = client.stream()
    for _ in range(3):
        await scaler.decide(after_s=15.0)
        fleet.router.arrivals += 1
    assert await next_of(stream) is True
    for _ in range(12):
        await scaler.decide(after_s=10.0)
    assert await next_of(stream) is False
    assert await client.metric() == 0.0
    assert not await client.is_active()
    fleet.workers.clear()
    await scaler.decide()
    # Nobody wakes it now: the router does, within no poll of KEDA.
    fleet.router.held = 1
    scaler.clock.advance(5.0)
    fleet.router.demand.set()
    assert await next_of(stream) is True
    assert await client.is_active()
    assert await client.metric() == 1.0
    stream.cancel()


async def test_a_stream_that_is_connected_again_is_told_at_once(
    scaler: Scaler, client: Keda, fleet: Fleet
) -> None:
    fleet.router.held = 1
    for _ in range(2):
        stream = client.stream()
        assert await next_of(stream) is True
        stream.cancel()
    assert len(scaler.made) == 1, "what was learnt outlives a connection"


async def test_advice_changes_nothing(fleet: Fleet) -> None:
    fleet.workers["http://w1"] = FakeWorker()
    async with serving(fleet, make_policy(mode=Mode.ADVISE)) as scaler, keda(scaler) as client:
        for _ in range(3):
            await scaler.decide()
        code, why = await refused(client.metric())
        assert code is Code.UNAVAILABLE
        assert "advises" in why


async def test_scaled_objects_do_not_share_what_is_learnt(scaler: Scaler, client: Keda) -> None:
    await client.metric_spec("one")
    await client.metric_spec("two")
    await client.metric_spec("one")
    await client.metric_spec("one", policy="chat", scalerAddress="keda:9090")
    assert list(scaler.made) == ["llm/one@llm/chat", "llm/two@llm/chat"]


async def test_variants_of_one_policy_are_decided_together(fleet: Fleet) -> None:
    fleet.workers = {
        "http://a": FakeWorker(labels={"gpu": "h100"}),
        "http://b": FakeWorker(labels={"gpu": "spot"}),
    }
    policy = make_policy(variants=("h100", "spot"), min_replicas=1)
    async with serving(fleet, policy) as scaler, keda(scaler) as client:
        for name in ("h100", "spot"):
            await client.metric_spec(f"so-{name}", policy="chat", variant=name)
        assert list(scaler.made) == ["llm/@llm/chat"]
        [session] = scaler.made.values()
        for _ in range(3):
            await scaler.decide(session, after_s=15.0)
        for name in ("h100", "spot"):
            value = await client.metric(f"so-{name}", policy="chat", variant=name)
            assert value == session.replicas(name)
        code, why = await refused(client.metric("so", policy="chat"))
        assert (code, why) == (
            Code.INVALID_ARGUMENT, "metadata.variant: '' is not one of h100, spot",
        )  # fmt: skip


SPEC = "model: m\nslo: {ttftSeconds: 2}\n"


@pytest.mark.parametrize(
    ("metadata", "code", "why"),
    [
        ({"policy": "x"}, Code.NOT_FOUND, "no policy 'x'; there are: llm/chat"),
        ({"scalerAddress": "a:1"}, Code.INVALID_ARGUMENT, "either policy: NAME"),
        ({"policy": "chat", "spec": SPEC}, Code.INVALID_ARGUMENT, "either policy: NAME"),
        ({"spec": "model: ["}, Code.INVALID_ARGUMENT, "metadata.spec, line 1, column 9"),
        ({"spec": "{}"}, Code.INVALID_ARGUMENT, "missing required field `model`"),
        (
            {"spec": SPEC + "router: {url: http://elsewhere, keyEnv: HOME}"},
            Code.INVALID_ARGUMENT, "router: is set where the scaler is started",
        ),
        ({"spec": "#" * 70_000}, Code.INVALID_ARGUMENT, "longer than 65536"),
        ({"policy": "chat", "variant": "x"}, Code.INVALID_ARGUMENT, "'x' is not one of default"),
    ],
)  # fmt: skip
async def test_metadata_that_is_wrong_is_told_in_the_scaled_objects_status(
    client: Keda, metadata: dict[str, str], code: Any, why: str
) -> None:
    found, details = await refused(client.metric_spec("so", **metadata))
    assert found is code
    assert why in details


@pytest.mark.parametrize("name", ["", "../../etc/x", "A" * 300])
async def test_names_are_those_of_kubernetes(client: Keda, name: str) -> None:
    code, why = await refused(client.metric_spec(name))
    assert (code, "is no name" in why) == (Code.INVALID_ARGUMENT, True)


async def test_a_metric_that_is_not_ours(client: Keda) -> None:
    code, why = await refused(client.metric(metric="s0-x"))
    assert (code, "no metric 's0-x'" in why) == (Code.INVALID_ARGUMENT, True)


async def test_a_spec_in_the_scaled_object(scaler: Scaler, client: Keda) -> None:
    await client.metric_spec(spec=SPEC)
    [(name, session)] = scaler.made.items()
    assert name.startswith("llm/so@")
    assert session.policy.spec.slo.ttft_s == 2.0
    await client.metric_spec(spec=SPEC + "mode: advise\n")
    assert len(scaler.made) == 2, "another spec begins anew"


async def test_what_nobody_asks_for_ends(scaler: Scaler, client: Keda) -> None:
    await client.metric_spec("old")
    scaler.clock.advance(EXPIRE_S / 2)
    await client.metric_spec("new")
    scaler.clock.advance(EXPIRE_S / 2 + 1)
    await scaler.sessions.expire()
    assert scaler.closed == ["llm/old@llm/chat"]


async def test_there_are_so_many_and_no_more(
    scaler: Scaler, client: Keda, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_SESSIONS >= 256
    monkeypatch.setattr("shoal.autoscaler.keda.sessions.MAX_SESSIONS", 1)
    await client.metric_spec("one")
    assert (await refused(client.metric_spec("two")))[0] is Code.RESOURCE_EXHAUSTED


async def test_health(scaler: Scaler) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{scaler.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "externalscaler.ExternalScaler"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_more_than_there_is_is_told_at_once_after_a_start(
    scaler: Scaler, client: Keda, fleet: Fleet
) -> None:
    fleet.router.held = 1
    await scaler.decide()
    assert await client.metric() == 1.0
