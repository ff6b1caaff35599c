"""The parts of a fake worker that its routes share."""

from __future__ import annotations

import time

from shoal.engine.kv_events import KVEventPublisher, events_on_wire
from shoal.engine.output import EngineStats
from shoal.engine.server.metrics import ServerMetrics
from shoal.errors import EngineUnavailable, InvalidRequest, NotFound, QueueFull

from .engine import FakeEngine, Sequence
from .faults import Faults
from .pacer import Pacer
from .settings import FakeWorkerSettings


class FakeWorker:
    """Engine, clock, faults and metrics of one worker."""

    def __init__(self, settings: FakeWorkerSettings) -> None:
        self.settings = settings
        self.engine = FakeEngine(settings.engine)
        self.pacer = Pacer(self.engine)
        self.faults = Faults(settings.faults, seed=settings.engine.seed)
        self.created = int(time.time())
        self.metrics = ServerMetrics(self)
        self._ready_at = time.perf_counter() + settings.startup_delay_s
        self.publisher: KVEventPublisher | None = None

    # What the metrics read.

    @property
    def is_ready(self) -> bool:
        return time.perf_counter() >= self._ready_at

    @property
    def model_name(self) -> str:
        return self.settings.model

    @property
    def max_model_len(self) -> int:
        return self.settings.engine.max_model_len

    def stats(self) -> EngineStats:
        engine = self.engine
        return EngineStats(
            scheduler=engine.stats(),
            num_steps=0,
            num_requests=len(engine.running) + len(engine.waiting),
            num_core_restarts=0,
            num_blocks=engine.config.num_blocks,
            block_size=engine.config.block_size,
            max_model_len=engine.config.max_model_len,
        )

    # What the routes do.

    def submit(
        self, request_id: str, model: str | None, prompt: list[int], max_tokens: int
    ) -> Sequence:
        """Take a request in. Raises RequestError for what a worker refuses."""
        self.check_ready()
        if model is not None and model != self.model_name:
            raise NotFound(
                f"There is no model {model!r} here; there is {self.model_name!r}.",
                param="model",
                code="model_not_found",
            )
        if not prompt:
            raise InvalidRequest("The prompt is empty.", param="prompt")
        if max_tokens < 1:
            raise InvalidRequest("max_tokens must be at least 1.", param="max_tokens")
        num_tokens = len(prompt) + max_tokens
        if num_tokens > self.max_model_len or not self.engine.fits(num_tokens):
            raise InvalidRequest(
                f"The prompt has {len(prompt)} tokens and the answer may have {max_tokens}:"
                f" together at most {self.max_model_len}, and they must fit into the KV cache.",
                param="max_tokens",
                code="context_length_exceeded",
            )
        sequence = self.pacer.add(request_id, prompt, max_tokens)
        if sequence is None:
            raise QueueFull("The waiting queue is full.", retry_after_s=1.0)
        return sequence

    def check_ready(self) -> None:
        """Raises EngineUnavailable during a slow start."""
        if not self.is_ready:
            wait_s = self._ready_at - time.perf_counter()
            raise EngineUnavailable("The worker is starting.", retry_after_s=wait_s)

    def start_events(self) -> None:
        """Bind the sockets of KV events, if asked for, and publish after each step."""
        endpoint = self.settings.kv_events_endpoint
        if endpoint is None:
            return
        self.publisher = KVEventPublisher(endpoint, self.settings.kv_events_replay_endpoint)
        self.engine.manager.pool.events = []
        self.pacer.on_step.append(self._publish_events)

    def close(self) -> None:
        if self.publisher is not None:
            self.publisher.close()

    def _publish_events(self) -> None:
        """Send what the cache did, and answer who asks for a replay."""
        pool = self.engine.manager.pool
        assert self.publisher is not None
        if pool.events:
            events, pool.events = pool.events, []
            wire = events_on_wire(events, block_size=self.settings.engine.block_size)
            self.publisher.publish(wire, now=time.time())
