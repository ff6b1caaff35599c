from __future__ import annotations

import structlog

from shoal.engine.async_engine import AsyncEngine
from shoal.engine.config import EngineConfig
from shoal.engine.core.output import EngineCoreOutputs, Reason, ReasonKind
from shoal.engine.core.stats import SchedulerStats
from shoal.engine.protocol import StepOutputs


async def test_a_preemption_is_logged_with_its_reason_even_when_the_requests_are_gone() -> None:
    reason = Reason(ReasonKind.PREEMPTED, "7", by="3", detail="40 computed tokens lost")
    engine = AsyncEngine(EngineConfig(model="echo"))
    with structlog.testing.capture_logs() as lines:
        engine.on_step(StepOutputs(1, EngineCoreOutputs(setbacks=[reason]), SchedulerStats()))
    assert lines == [
        {
            "event": "request.setback",
            "log_level": "info",
            "kind": "preempted",
            "request_id": None,
            "by": None,
            "detail": "40 computed tokens lost",
        }
    ]
