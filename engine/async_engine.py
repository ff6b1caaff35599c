"""The engine as the API process sees it: submit a request, iterate over its outputs.

Everything here runs on one event loop and in no other thread. The work per step is one message:
`on_step` turns each request's new tokens into a delta and wakes its consumer. Importing this
pulls in no torch; the model lives in the engine-core process.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

import structlog

from shoal.clock import Clock, MonotonicClock
from shoal.errors import (
    EngineUnavailable,
    InternalError,
    InvalidRequest,
    NotFound,
    RequestError,
)

from . import protocol
from .config import EngineConfig
from .core.output import Reason
from .core.request import FinishReason
from .core.sampling_params import SamplingParams
from .core.stats import SchedulerStats
from .core_client import CORE_COMMAND, CoreClient
from .core_profiler import CoreProfiler
from .core_supervisor import CoreState, CoreSupervisor
from .output import EngineStats, Health, KVEventEndpoints, RequestOutput
from .output_processor import OutputProcessor
from .output_stream import OutputStream
from .refusals import queue_timeout, rejected
from .request_checks import check_request
from .sources.model_files import ModelFiles
from .sources.progress import NoProgress, Progress
from .sources.resolve import resolve as resolve_model
from .sources.resolve import resolve_shape
from .tokenizer.detokenizer import IncrementalDetokenizer
from .tokenizer.load import load_tokenizer as load_model_tokenizer
from .tokenizer.load import load_tokenizer_or_stand_in
from .tokenizer.tokenizer import Tokenizer

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _InFlight:
    request_id: str
    processor: OutputProcessor
    stream: OutputStream


class AsyncEngine:
    """Use: `start`, then `generate` from any number of tasks; `shutdown` at last.

    `load_tokenizer` and `core_command` (the program of the core process) can be replaced, so
    that an engine of fakes behaves like a real one.
    """

    tokenizer: Tokenizer
    """Set by `start`, as are the model's name and length."""
    model_name: str
    created: int
    """When the model was loaded, Unix seconds."""

    def __init__(
        self,
        config: EngineConfig,
        *,
        resolve: Callable[..., ModelFiles] | None = None,
        load_tokenizer: Callable[[ModelFiles], Tokenizer] | None = None,
        core_command: Sequence[str] = CORE_COMMAND,
        spare_core: CoreClient | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`spare_core`: a core process that was launched before there was a model to load."""
        self._config = config
        is_dummy = config.load_format == "dummy"
        self._resolve = resolve or (resolve_shape if is_dummy else resolve_model)
        self._load_tokenizer = load_tokenizer or (
            load_tokenizer_or_stand_in if is_dummy else load_model_tokenizer
        )
        self._clock = clock or MonotonicClock()
        self._core = CoreSupervisor(
            self, command=core_command, config=config.supervision, spare=spare_core
        )
        self._profiler = CoreProfiler(self._core.send)
        self._draining = False
        self._in_flight: dict[str, _InFlight] = {}
        """By our own numbers: short on the wire and never used twice, so that what was under way
        when a request ended cannot reach a later one of the same name."""
        self._numbers = itertools.count()
        self._request_ids: set[str] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._last_step: protocol.StepOutputs | None = None
        self._progressed_at = self._clock.now()
        self._watching: asyncio.Task[None] | None = None

    # -- life ----------------------------------------------------------------------------

    async def start(self, *, progress: Progress | None = None) -> None:
        """Fetch the model if need be, and load it.

        Raises ModelError or ConfigError, whichever process met it.
        """
        progress = progress or NoProgress()
        files = await asyncio.to_thread(self._resolve, self._config.model, progress=progress)
        self.model_name = self._config.served_model_name or files.name
        try:
            # The core process imports torch meanwhile; this process has the other core.
            self.tokenizer, _ = await asyncio.gather(
                asyncio.to_thread(self._load_tokenizer, files),
                self._core.start(protocol.Load(self._config, files), progress=progress),
            )
        except BaseException:
            await self._core.stop()
            raise
        self.created = int(time.time())
        self._watching = asyncio.create_task(self._watch_for_hangs())

    async def shutdown(self, *, drain_timeout_s: float = 0.0) -> None:
        """Admit nothing more, let running requests end for so long, abort the rest, stop."""
        self._draining = True
        try:
            async with asyncio.timeout(drain_timeout_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("engine.drain_timeout", num_aborted=len(self._in_flight))
            for number, request in list(self._in_flight.items()):
                self._forget(number)
                request.stream.put(request.processor.process([], finish_reason=FinishReason.ABORT))
        finally:
            if self._watching is not None:
                self._watching.cancel()
            await self._core.stop()

    async def wait_dead(self) -> str:
        """Returns when the core has died for good, with the reason: the server is to exit then."""
        return await self._core.wait_dead()

    # -- looking in ----------------------------------------------------------------------

    @property
    def max_model_len(self) -> int:
        assert self._core.ready is not None, "the engine is not started"
        return self._core.ready.max_model_len

    @property
    def kv_event_endpoints(self) -> KVEventEndpoints:
        config = self._config
        return KVEventEndpoints(config.kv_events_endpoint, config.kv_events_replay_endpoint)

    @property
    def is_ready(self) -> bool:
        """Whether a request sent now would be taken in."""
        return self._why_not_serving() is None and not self._draining

    def health(self) -> Health:
        """Not ok while no core serves, or when it makes no steps though requests wait."""
        if (why := self._why_not_serving()) is not None:
            return Health(False, why)
        stalled_s = self._stalled_s()
        if stalled_s > self._config.supervision.stall_timeout_s:
            return Health(
                False,
                f"no step for {stalled_s:.0f} s with {len(self._in_flight)} requests in flight",
            )
        return Health(True)

    def stats(self) -> EngineStats:
        ready, last_step = self._core.ready, self._last_step
        assert ready is not None, "the engine is not started"
        return EngineStats(
            scheduler=SchedulerStats() if last_step is None else last_step.stats,
            num_steps=0 if last_step is None else last_step.num_steps,
            num_requests=len(self._in_flight),
            num_core_restarts=self._core.num_restarts,
            num_blocks=ready.num_blocks,
            block_size=ready.block_size,
            max_model_len=ready.max_model_len,
        )

    @property
    def profiler(self) -> CoreProfiler:
        """Takes profiles of the core. Raises NotFound when that is switched off, and
        EngineUnavailable while no core serves."""
        if self._config.torch_profiler_dir is None:
            raise NotFound(
                "Profiling is switched off: start the server with --torch-profiler-dir FOLDER."
            )
        if (why := self._why_not_serving()) is not None:
            raise self._unavailable(why)
        return self._profiler

    # -- requests ------------------------------------------------------------------------

    async def generate(
        self,
        prompt_token_ids: list[int],
        sampling_params: SamplingParams,
        *,
        request_id: str,
        priority: int = 0,
        cache_salt: str | None = None,
    ) -> AsyncGenerator[RequestOutput, None]:
        """Run one request; the outputs are deltas, the last one has a finish reason.

        Raises a RequestError, from the first output on. Closing the iterator, or cancelling the
        task that iterates, aborts the request.
        """
        number, stream = self._submit(
            prompt_token_ids, sampling_params, request_id, priority=priority, cache_salt=cache_salt
        )
        try:
            while True:
                output = await stream.get()
                yield output
                if output.finish_reason is not None:
                    return
        finally:
            if self._forget(number):
                self._core.send(protocol.encode(protocol.Abort([number])))

    def _submit(
        self,
        prompt_token_ids: list[int],
        params: SamplingParams,
        request_id: str,
        *,
        priority: int,
        cache_salt: str | None,
    ) -> tuple[str, OutputStream]:
        if self._draining:
            raise EngineUnavailable("The server is shutting down.", retry_after_s=1.0)
        if not (health := self.health()).ok:
            raise self._unavailable(health.reason)
        if request_id in self._request_ids:
            raise InvalidRequest(f"The request id {request_id!r} is already in use.")
        ready = self._core.ready
        assert ready is not None
        check_request(
            prompt_token_ids,
            params,
            vocab_size=ready.vocab_size,
            max_model_len=ready.max_model_len,
        )
        number = str(next(self._numbers))
        message = protocol.AddRequest(
            request_id=number,
            prompt_token_ids=prompt_token_ids,
            sampling_params=params,
            eos_token_ids=self.tokenizer.eos_token_ids,
            arrival_time=self._clock.now(),
            priority=priority,
            cache_salt=cache_salt,
        )
        try:
            frame = protocol.encode(message)
        except (OverflowError, UnicodeEncodeError) as error:
            raise InvalidRequest(f"A value of the request cannot be used: {error}.") from error
        detokenizer = IncrementalDetokenizer(
            self.tokenizer, prompt_token_ids, skip_special_tokens=params.skip_special_tokens
        )
        stream = OutputStream()
        if not self._in_flight:
            self._progressed_at = self._clock.now()
            self._idle.clear()
        self._in_flight[number] = _InFlight(
            request_id, OutputProcessor(detokenizer, params), stream
        )
        self._request_ids.add(request_id)
        self._core.send(frame)
        return number, stream

    def _forget(self, number: str) -> bool:
        """Take a request out of the books; False if it was out already."""
        request = self._in_flight.pop(number, None)
        if request is None:
            return False
        self._request_ids.remove(request.request_id)
        if not self._in_flight:
            self._idle.set()
        return True

    def _fail(self, number: str, error: RequestError) -> None:
        request = self._in_flight.get(number)
        if request is not None:
            self._forget(number)
            request.stream.fail(error)

    # -- what the core says (CoreListener) -----------------------------------------------

    def _log_setback(self, reason: Reason) -> None:
        """The scheduler knows requests by our numbers; people know them by their ids."""
        names = {number: self._in_flight[number].request_id for number in
                 (reason.request_id, reason.by) if number in self._in_flight}  # fmt: skip
        log.info(
            "request.setback",
            kind=str(reason.kind),
            request_id=names.get(reason.request_id),
            by=names.get(reason.by or ""),
            detail=reason.detail,
        )

    def on_step(self, message: protocol.StepOutputs) -> None:
        self._last_step = message
        self._progressed_at = self._clock.now()
        outputs, in_flight = message.outputs, self._in_flight
        for setback in outputs.setbacks:
            self._log_setback(setback)
        for number, started in outputs.started.items():
            if number in in_flight:
                in_flight[number].processor.start(started)
        for number, logprobs in outputs.prompt_logprobs.items():
            if number in in_flight:
                in_flight[number].processor.add_prompt_logprobs(logprobs)
        cut: list[str] = []
        for number, token_ids in zip(outputs.req_ids, outputs.new_token_ids, strict=True):
            request = in_flight.get(number)
            if request is None or not token_ids:
                continue
            finish_reason = outputs.finish_reasons.get(number)
            try:
                output = request.processor.process(
                    token_ids,
                    finish_reason=finish_reason,
                    logprobs=outputs.logprobs.get(number, ()),
                )
            except Exception:
                log.exception("request.detokenize_failed", request_id=request.request_id)
                self._fail(number, InternalError("The output could not be turned into text."))
                cut.append(number)
                continue
            request.stream.put(output)
            if output.finish_reason is not None:
                self._forget(number)
                if finish_reason is None:
                    cut.append(number)
        for number, finish_reason in outputs.finish_reasons.items():
            if finish_reason is FinishReason.TIMEOUT:
                self._fail(number, queue_timeout(self._config.queue_timeout_s))
        if cut:
            self._core.send(protocol.encode(protocol.Abort(cut)))

    def on_rejected(self, message: protocol.Rejected) -> None:
        self._fail(message.request_id, rejected(message.rejection))

    def on_profiled(self, message: protocol.Profiled) -> None:
        self._profiler.on_answer(message)

    def on_lost(self) -> None:
        self._last_step = None
        self._profiler.on_lost(self._core.why)
        for number in list(self._in_flight):
            self._fail(number, self._unavailable(self._core.why))

    # -- failures ------------------------------------------------------------------------

    def _unavailable(self, reason: str) -> EngineUnavailable:
        return EngineUnavailable(
            f"The engine cannot serve requests now: {reason}.",
            retry_after_s=self._core.retry_after_s,
        )

    def _why_not_serving(self) -> str | None:
        if self._core.state is not CoreState.READY:
            return self._core.why
        if self._watching is None:
            return "the tokenizer is being loaded"  # and `start` is not done
        return None

    def _stalled_s(self) -> float:
        """Seconds since the last sign of progress while requests are in flight, else 0."""
        return self._clock.now() - self._progressed_at if self._in_flight else 0.0

    async def _watch_for_hangs(self) -> None:
        limit_s = self._config.supervision.kill_timeout_s
        while True:
            await asyncio.sleep(limit_s / 10)
            if self._core.state is CoreState.READY and self._stalled_s() > limit_s:
                self._core.kill(f"it made no step for {limit_s:g} s while requests were in flight")
