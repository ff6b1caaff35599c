"""The scaler on a port of this machine, before a fleet in memory, and KEDA's side of the wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

import grpc
import grpc.aio

from shoal.autoscaler.collect.collector import HttpCollector
from shoal.autoscaler.core.spec import Pace, ScalingSpec, SloSpec, VariantSpec
from shoal.autoscaler.keda import wire
from shoal.autoscaler.keda.server import ListenSettings, Server
from shoal.autoscaler.keda.session import Session
from shoal.autoscaler.keda.sessions import ScaledObject, Sessions
from shoal.autoscaler.policy import Mode, ScalingPolicy
from shoal.autoscaler.settings.load import LoadedPolicy
from shoal.clock import VirtualClock
from tests.autoscaler.collect.fleet import Fleet

REF = {"policy": "chat"}


def make_policy(
    name: str = "chat", *, variants: tuple[str, ...] = ("default",), mode: Mode = Mode.AUTO,
    min_replicas: int = 0,
) -> LoadedPolicy:  # fmt: skip
    """Of the model `m`; a step comes when a test wakes it, and not before."""
    spec = ScalingSpec(
        slo=SloSpec(ttft_s=1.0),
        pace=Pace(scale_to_zero_after_s=60.0, scale_down_delay_s=30.0, start_up_s=10.0),
        variants=tuple(VariantSpec(name=v, min_replicas=min_replicas) for v in variants),
    )
    labels = {v: {"gpu": v} if len(variants) > 1 else {} for v in variants}
    return LoadedPolicy(
        name=name, namespace="llm", router=None, targets={}, endpoint_labels=labels,
        policy=ScalingPolicy(model="m", spec=spec, mode=mode, interval_s=300.0),
    )  # fmt: skip


class Scaler:
    """The server with its sessions, and the time of all their loops."""

    def __init__(self, fleet: Fleet, *policies: LoadedPolicy, settings: ListenSettings) -> None:
        self.fleet = fleet
        self.clock = VirtualClock(1000.0)
        self.made: dict[str, Session] = {}
        self.closed: list[str] = []
        self.sessions = Sessions(policies or (make_policy(),), self._make, self.clock)
        self.server = Server(self.sessions, settings)
        self.port = 0

    def _make(self, name: str, loaded: LoadedPolicy) -> Session:
        collector = HttpCollector(
            loaded.policy, self.fleet.client(), router_urls=tuple(self.fleet.routers),
            endpoint_labels=loaded.endpoint_labels, timeout_s=1.0,
        )  # fmt: skip
        self.made[name] = Session(
            loaded.policy, collector, self.clock, on_close=partial(self.closed.append, name)
        )
        return self.made[name]

    def session(self, name: str = "so", **metadata: str) -> Session:
        """Made now, if it is not there yet."""
        return self.sessions.of(ScaledObject("llm", name, metadata or REF)).session

    async def decide(self, session: Session | None = None, *, after_s: float = 5.0) -> None:
        """One more decision, later on the clock."""
        session = session or self.session()
        async with asyncio.timeout(10):
            await first_decision(session)
            news = session.news
            self.clock.advance(after_s)
            session._loop.wake()
            await news.wait()


async def first_decision(session: Session) -> None:
    """That comes by itself."""
    if session._last is None:
        await session.news.wait()


@contextlib.asynccontextmanager
async def serving(
    fleet: Fleet, *policies: LoadedPolicy, settings: ListenSettings | None = None
) -> AsyncIterator[Scaler]:
    """Started, and ended with all its sessions."""
    settings = settings or ListenSettings(address="127.0.0.1:0")
    scaler = Scaler(fleet, *policies, settings=settings)
    scaler.port = await scaler.server.start()
    try:
        yield scaler
    finally:
        await scaler.server.stop()
        await scaler.sessions.close()


class Keda:
    """A real gRPC client that calls what KEDA calls."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._calls = {
            name: (channel.unary_stream if name.startswith("Stream") else channel.unary_unary)(
                f"/externalscaler.ExternalScaler/{name}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            for name, (request, response) in wire.METHODS.items()
        }

    async def is_active(self, name: str = "so", **metadata: str) -> bool:
        return bool((await self._calls["IsActive"](ref(name, metadata), timeout=10)).result)

    async def metric_spec(self, name: str = "so", **metadata: str) -> tuple[str, float]:
        answer = await self._calls["GetMetricSpec"](ref(name, metadata), timeout=10)
        [spec] = answer.metricSpecs
        assert spec.targetSize == 0
        return spec.metricName, spec.targetSizeFloat

    async def metric(self, name: str = "so", *, metric: str = "shoal-replicas", **metadata: str):  # type: ignore[no-untyped-def]
        request = wire.GetMetricsRequest(scaledObjectRef=ref(name, metadata), metricName=metric)
        [value] = (await self._calls["GetMetrics"](request, timeout=10)).metricValues
        assert (value.metricName, value.metricValue) == ("shoal-replicas", 0)
        return value.metricValueFloat

    def stream(self, name: str = "so", **metadata: str) -> Any:
        return self._calls["StreamIsActive"](ref(name, metadata))


def ref(name: str, metadata: Mapping[str, str]) -> Any:
    return wire.ScaledObjectRef(name=name, namespace="llm", scalerMetadata=dict(metadata) or REF)


@contextlib.asynccontextmanager
async def keda(scaler: Scaler, credentials: Any = None) -> AsyncIterator[Keda]:
    address = f"127.0.0.1:{scaler.port}"
    if credentials is None:
        channel = grpc.aio.insecure_channel(address)
    else:
        channel = grpc.aio.secure_channel(address, credentials)
    async with channel:
        yield Keda(channel)
