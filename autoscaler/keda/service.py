"""The four methods that KEDA calls.

The metric is a number of replicas with a target of 1, so the HPA's ceil(value / target) is exactly
what was decided; the delay before a scale-down is in the metric, where KEDA's own cooldown does not
reach (it shapes 1 -> 0 alone). What is not known is an error, never 0: KEDA then keeps the replicas
there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, NoReturn

import grpc
import structlog

from shoal.errors import ConfigError, NotFound, QueueFull, ShoalError

from . import wire
from .session import NotKnown
from .sessions import Asked, ScaledObject, Sessions

METRIC: Final = "shoal-replicas"
STREAM_LOOK_S = 60.0
"""A stream that has nothing to tell looks so often, and so keeps its session."""
_STATUS = (
    (ConfigError, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (QueueFull, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (NotKnown, grpc.StatusCode.UNAVAILABLE),
)
_log = structlog.get_logger(__name__)


class ExternalScaler:
    """Method names are the protocol's."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def IsActive(self, request: Any, context: Any) -> Any:
        """Whether there should be any replica."""
        try:
            asked = self._asked(request)
            return wire.IsActiveResponse(result=_replicas(asked) > 0)
        except ShoalError as error:
            await _refuse(context, error)

    async def StreamIsActive(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """The same at once and whenever it changes: somebody who waits for a first replica does
        not wait for KEDA's next poll."""
        told: bool | None = None
        try:
            while True:
                asked = self._asked(request)
                news = asked.session.news
                active = _is_active(asked)
                if active is not None and active is not told:
                    yield wire.IsActiveResponse(result=active)
                    told = active
                try:
                    async with asyncio.timeout(STREAM_LOOK_S):
                        await news.wait()
                except TimeoutError:
                    continue
        except ShoalError as error:
            await _refuse(context, error)

    async def GetMetricSpec(self, request: Any, context: Any) -> Any:
        """Asked for when the ScaledObject is made; no number is needed for it."""
        try:
            self._asked(request)
        except ShoalError as error:
            await _refuse(context, error)
        return wire.GetMetricSpecResponse(
            metricSpecs=[wire.MetricSpec(metricName=METRIC, targetSizeFloat=1.0)]
        )

    async def GetMetrics(self, request: Any, context: Any) -> Any:
        """The number of replicas that there should be."""
        try:
            asked = self._asked(request.scaledObjectRef)
            if request.metricName not in ("", METRIC):
                raise ConfigError(f"no metric {request.metricName!r}; there is {METRIC!r}")
            # A float of 0 is read as "not set", and then the integer counts, which is 0 as well.
            value = wire.MetricValue(metricName=METRIC, metricValueFloat=float(_replicas(asked)))
            return wire.GetMetricsResponse(metricValues=[value])
        except ShoalError as error:
            await _refuse(context, error)

    def _asked(self, ref: Any) -> Asked:
        return self._sessions.of(
            ScaledObject(ref.namespace or "default", ref.name, dict(ref.scalerMetadata))
        )


def _replicas(asked: Asked) -> int:
    return asked.session.replicas(asked.variant)


def _is_active(asked: Asked) -> bool | None:
    """None: not known, and then nothing is told."""
    try:
        return _replicas(asked) > 0
    except NotKnown:
        return None


async def _refuse(context: Any, error: ShoalError) -> NoReturn:
    """Ends the call; the message is what `kubectl describe scaledobject` shows."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            await context.abort(status, str(error))
    _log.error("keda.fault", exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, str(error))
    raise AssertionError("abort raises")
