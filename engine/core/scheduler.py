"""Continuous batching: which requests compute how many tokens in the next step, and why.

There is no prefill or decode phase: a step is `{request_id: num_tokens}`. Every running decode
gets its token in every step; what is left of the budgets goes to running prefills, then to
waiting requests, in chunks. There are two budgets: tokens, a constant, and time, from what the
steps so far have taught about their durations (`step_time`, `prefill_time`). When blocks run out a
victim gives up its own and is recomputed later. Chunked prefill mixed with decodes follows
Sarathi-Serve (Agrawal et al., 2024), paging and preemption by recompute vLLM (Kwon et al., 2023).

Time is an argument, nothing here does I/O. Liveness: see `policy`; a request that could never fit
is refused at the door, so every admitted request ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .config import CacheConfig, SchedulerConfig
from .door import refuse_for_ever, refuse_for_now, refuse_id
from .in_flight import StepInFlight, StepsInFlight
from .kv_cache_events import KVCacheEvent
from .kv_cache_manager import ComputedBlocks, KVCacheManager
from .output import (
    SETBACKS,
    EngineCoreOutputs,
    ModelRunnerOutput,
    ReasonKind,
    Rejection,
    SchedulerOutput,
    Started,
)
from .policy import choose_victim, order_key
from .prefill_time import PrefillTime
from .request import FinishReason, Request, RequestStatus
from .request_queue import RequestQueue
from .room import Room
from .running import RunningRequests
from .stats import SchedulerCounters, SchedulerStats
from .step import Step
from .step_time import StepShape, StepTimeModel


class Scheduler:
    """Owns all requests of an engine from `add_request` to their end."""

    def __init__(self, config: SchedulerConfig, cache: CacheConfig) -> None:
        self._config = config
        self._kv = KVCacheManager(cache, max_num_batched_tokens=config.max_num_batched_tokens)
        self._requests: dict[str, Request] = {}
        self._waiting = RequestQueue(config.queue_timeout_s)
        self._running = RunningRequests()
        self._room = Room(config, self._kv, self._running)
        self._step_time = StepTimeModel()
        self._in_flight = StepsInFlight()
        self._needs_rest = False
        """Somebody has to be preempted for the next step: nothing may be in flight then."""
        # What the next output has to tell.
        self._finished_req_ids: list[str] = []
        self._timed_out: list[str] = []
        self._started: dict[str, Started] = {}
        self._counters = SchedulerCounters()

    # -- requests come and go ------------------------------------------------------------

    def add_request(self, request: Request) -> Rejection | None:
        """Queue a request, or refuse it with the numbers that make it impossible now or ever."""
        config, request_id = self._config, request.request_id
        # One that has ended keeps its id while a step in flight or the next output speaks of it.
        ended = self._in_flight.is_held(request_id) or request_id in self._timed_out
        if ended or request_id in self._requests:
            return refuse_id(request)
        rejection = refuse_for_ever(request, config=config, kv=self._kv)
        if rejection is not None:
            return rejection
        if len(self._waiting) >= config.max_num_waiting:
            head = self._waiting.peek()
            return refuse_for_now(len(self._waiting), head=head, now=request.arrival_time)
        request.max_num_tokens = min(request.max_num_tokens, config.max_model_len)
        self._requests[request_id] = request
        self._waiting.add(request)
        return None

    def finish_requests(self, request_ids: Iterable[str], status: RequestStatus) -> None:
        """End requests from outside (abort, stop string); ids that are not here are ignored."""
        for request_id in request_ids:
            request = self._requests.get(request_id)
            if request is not None:
                self._finish(request, status)

    # -- the step ------------------------------------------------------------------------

    def schedule(self, now: float) -> SchedulerOutput:
        """Decide the next step. Decodes come first in it, then prefill chunks.

        Nothing is in flight: each step decided before has had its output booked.
        """
        assert not self._in_flight, "book the step in flight first, or `schedule_ahead`"
        self._needs_rest = False
        step = Step(self._config.max_num_batched_tokens)
        self._expire(step, now)
        self._schedule_decodes(step)
        if self._running.prefilling or len(self._waiting):
            self._add_prefills(step, self._running.decode_shape(), now)
        # Whoever decodes now is in the step.
        return self._begin(step, self._running.decode_shape(), now)

    def schedule_ahead(self, now: float) -> SchedulerOutput | None:
        """Decide the step after the one in flight, of which only the new token ids are unknown.

        None, and no change: there is nothing to compute yet, or it takes what `schedule` alone
        does. A block changes hands only while no step in flight uses it, so nobody is preempted
        here; and whose last token is under way is left out, if its length says so. Who ends by
        a stop token gets a token too many, which nobody hears of.
        """
        if self._needs_rest:
            return None
        num_tokens = self._in_flight.num_tokens
        decodes = self._running.decodes_after(num_tokens)
        if not (decodes.num_tokens or decodes.has_prefills or len(self._waiting)):
            return None
        new_block_ids = self._kv.allocate_ahead(decodes.due)
        if new_block_ids is None:
            return None
        step = Step(self._config.max_num_batched_tokens, in_flight=num_tokens)
        self._expire(step, now)
        step.new_block_ids = new_block_ids
        step.begin_with(decodes.num_tokens)
        shape = decodes.shape(self._running.decode_shape())
        if self._running.prefilling or len(self._waiting):
            self._add_prefills(step, shape, now)
        return self._begin(step, shape, now)

    def update_from_output(
        self, scheduler_output: SchedulerOutput, runner_output: ModelRunnerOutput, now: float
    ) -> EngineCoreOutputs:
        """Book what a step computed, end what is complete, and report it to the front end."""
        finish_reasons = dict.fromkeys(self._timed_out, FinishReason.TIMEOUT)
        started, self._started, self._timed_out = self._started, {}, []
        self._step_time.observe(*self._in_flight.end(scheduler_output, now))
        if scheduler_output.copies is not None:
            self._kv.end_copies(scheduler_output.copies)
        self._running.begin_booking()
        req_ids, sampled = runner_output.req_ids, runner_output.sampled_token_ids
        one_left, somebody_left = set(), False
        requests = map(self._requests.get, req_ids)
        for request, new_token_ids in zip(requests, sampled, strict=True):
            if request is None:  # ended while the step ran
                somebody_left = True
                continue
            if not new_token_ids:
                num_scheduled = scheduler_output.num_scheduled_tokens[request.request_id]
                request.num_computed_tokens += num_scheduled
                continue
            # A token is sampled exactly when all known tokens have been computed.
            token_ids = request.token_ids
            request.num_computed_tokens = num_tokens = len(token_ids)
            token_id = new_token_ids[0]
            token_ids.append(token_id)
            if token_id in request.stop_token_ids:
                finish_reasons[request.request_id] = FinishReason.STOP
                self._finish(request, RequestStatus.FINISHED_STOPPED)
            elif num_tokens + 2 >= request.max_num_tokens:
                if num_tokens + 1 >= request.max_num_tokens:
                    finish_reasons[request.request_id] = FinishReason.LENGTH
                    self._finish(request, RequestStatus.FINISHED_LENGTH_CAPPED)
                else:
                    one_left.add(request.request_id)
        self._running.end_booking(one_left)
        outputs = EngineCoreOutputs(
            req_ids=req_ids,
            new_token_ids=sampled,
            finish_reasons=finish_reasons,
            started=started,
            logprobs=runner_output.logprobs,
            prompt_logprobs=runner_output.prompt_logprobs,
            setbacks=[r for r in scheduler_output.reasons if r.kind in SETBACKS],
        )
        if somebody_left:
            outputs = outputs.only_of(self._requests.keys() | finish_reasons.keys())
        for request in self._in_flight.take_released():
            self._kv.free(request)
        return outputs

    # -- looking in ----------------------------------------------------------------------

    def has_unfinished_requests(self) -> bool:
        return bool(self._requests)

    def has_finished_requests(self) -> bool:
        """Whether requests have ended that the next output still has to tell of."""
        return bool(self._finished_req_ids or self._timed_out)

    def record_kv_events(self) -> None:
        """From now on keep what happens to the prefix cache, for `take_kv_events`."""
        self._kv.record_events()

    def take_kv_events(self) -> list[KVCacheEvent]:
        """What happened to it since the last call, oldest first; whoever records must take."""
        return self._kv.take_events()

    def make_stats(self) -> SchedulerStats:
        return self._counters.stats(
            num_running=len(self._running),
            num_waiting=len(self._waiting),
            kv_cache_usage=self._kv.usage,
            host_cache_usage=self._kv.host_usage,
        )

    def check_integrity(self) -> None:
        """Raise AssertionError unless every request is in one place and the blocks balance."""
        assert len(self._requests) == len(self._running) + len(self._waiting)
        assert all(self._requests[request.request_id] is request for request in self._running)
        self._running.check_integrity()
        assert not self._requests.keys() & {r.request_id for r in self._in_flight.held}
        self._kv.check_integrity([*self._requests.values(), *self._in_flight.held])

    # -- the parts of a step -------------------------------------------------------------

    def _begin(self, step: Step, decodes: StepShape, now: float) -> SchedulerOutput:
        shape = decodes
        if step.prefill_tokens:
            shape = replace(
                decodes, prefill_tokens=step.prefill_tokens, prefill_pairs=step.prefill_pairs
            )
        finished, self._finished_req_ids = self._finished_req_ids, []
        if step.reasons:
            self._counters.reasons.update(reason.kind for reason in step.reasons)
        output = step.output(finished, self._kv.take_copies())
        self._in_flight.begin(StepInFlight(output, now, shape))
        return output

    def _add_prefills(self, step: Step, decodes: StepShape, now: float) -> None:
        if self._step_time.has_learnt:
            step.prefill_time = PrefillTime(
                self._step_time,
                decodes,
                num_prefills=len(self._running.prefilling)
                + self._room.num_startable(self._waiting),
                itl_target_s=self._config.itl_target_s,
            )
        self._schedule_prefills(step)
        if not step.preempted and len(self._waiting):
            self._admit_waiting(step, now)

    def _expire(self, step: Step, now: float) -> None:
        for request in self._waiting.pop_expired(now):
            request.status = RequestStatus.FINISHED_TIMED_OUT
            del self._requests[request.request_id]
            self._timed_out.append(request.request_id)
            step.explain(ReasonKind.QUEUE_TIMEOUT, request)

    def _schedule_decodes(self, step: Step) -> None:
        """One token for every decode: `max_num_seqs <= max_num_batched_tokens`, so all fit.

        Only the requests whose last block is full cost anything: one in `block_size` a step.
        """
        due = [r for r in self._running.decoding.values() if len(r.token_ids) > r.num_slots]
        new_block_ids = self._kv.allocate_next_blocks(due)
        if new_block_ids is not None:
            step.new_block_ids = new_block_ids
        else:
            for request in due:
                if request.request_id in self._running.decoding:  # else a victim of one before it
                    self._grow(step, request, 1)
        step.begin_with(dict.fromkeys(self._running.decoding, 1))

    def _schedule_prefills(self, step: Step) -> None:
        for request in sorted(self._running.prefilling.values(), key=order_key):
            if request.request_id not in self._running.prefilling:  # a victim of one before it
                continue
            if request.request_id in step.num_scheduled_tokens:  # its prompt ends in flight
                continue
            start = request.num_computed_tokens + step.num_in_flight(request)
            if start == request.num_tokens:  # so does its only output token
                continue
            num_tokens = step.chunk(request.num_tokens - start, start=start)
            if num_tokens == 0:
                step.explain_budget(request, "nothing left in this step")
            elif self._grow(step, request, num_tokens):
                self._kv.publish(request, start + num_tokens)
                step.add_prefill(request, num_tokens)

    def _admit_waiting(self, step: Step, now: float) -> None:
        """Start waiting requests in order; the first that does not fit holds up the others.

        Letting smaller ones pass would starve it.
        """
        while step.has_room and (request := self._waiting.peek()) is not None:
            if request.request_id in step.preempted:
                break
            computed = self._kv.get_computed_blocks(request)
            start = computed.num_tokens
            num_tokens = step.chunk(request.num_tokens - start, start=start)
            if num_tokens == 0:
                break
            obstacle = self._make_way(step, request, computed)
            if obstacle is not None:
                step.explain(obstacle, request, detail=f"{len(self._waiting)} waiting")
                break
            self._waiting.pop()
            self._start(step, request, computed, num_tokens, now)

    def _start(
        self, step: Step, request: Request, computed: ComputedBlocks, num_tokens: int, now: float
    ) -> None:
        request.status = RequestStatus.RUNNING
        self._running.add(request)
        self._kv.admit(request, computed)
        blocks = self._kv.allocate_slots(request, num_tokens)
        assert blocks is not None, "num_lacking_blocks said that it fits"
        self._kv.publish(request, computed.num_tokens + num_tokens)
        step.add_new(request)
        step.add_prefill(request, num_tokens)
        if request.first_scheduled_time is None:
            request.first_scheduled_time = now
            request.num_cached_tokens = computed.num_tokens
            self._counters.prefix_cache.count(
                request.num_tokens,
                num_found=computed.num_tokens,
                num_on_host=self._kv.num_on_host(computed),
            )
            self._started[request.request_id] = Started(
                queue_s=now - request.arrival_time, num_cached_tokens=computed.num_tokens
            )

    def _make_way(
        self, step: Step, request: Request, computed: ComputedBlocks
    ) -> ReasonKind | None:
        """Preempt less urgent requests until this one fits; what is in its way if they cannot.

        Without it a full batch of unimportant work would hold up important work (priority
        inversion). Nobody is preempted in vain: the blocks they hold must be enough.
        """
        while True:
            lacking = self._room.num_lacking_blocks(request, computed)
            obstacle = self._room.obstacle(lacking)
            if obstacle is None:
                return None
            yielding = [r for r in self._preemptible(step) if r.priority > request.priority]
            if not yielding or lacking > sum(map(self._kv.num_held, yielding)):
                return obstacle
            if step.is_ahead:
                self._needs_rest = True
                return obstacle
            victim = choose_victim(yielding, min_priority=request.priority + 1)
            assert victim is not None
            self._preempt(step, victim, by=request, kind=ReasonKind.PRIORITY)

    def _grow(self, step: Step, request: Request, num_tokens: int) -> bool:
        """Get slots for a running request, at the cost of victims; False if it was one itself, or
        if it has to wait because victims are not to be had ahead."""
        num_in_flight = step.num_in_flight(request)
        while (
            blocks := self._kv.allocate_slots(request, num_tokens, num_in_flight=num_in_flight)
        ) is None:
            if step.is_ahead:
                self._needs_rest = True
                return False
            victim = choose_victim(self._preemptible(step), min_priority=request.priority)
            assert victim is not None, "a request that is growing is preemptible itself"
            self._preempt(step, victim, by=request, kind=ReasonKind.PREEMPTED)
            if victim is request:
                return False
        if blocks[0]:
            step.new_block_ids[request.request_id] = blocks
        return True

    def _preemptible(self, step: Step) -> list[Request]:
        """Running requests, but not prefills of this step: others may share the blocks that the
        step is about to fill."""
        scheduled = step.num_scheduled_tokens
        prefills = (r for r in self._running.prefilling.values() if r.request_id not in scheduled)
        return [*self._running.decoding.values(), *prefills]

    def _preempt(self, step: Step, victim: Request, *, by: Request, kind: ReasonKind) -> None:
        detail = f"{victim.num_computed_tokens} computed tokens lost"
        step.explain(kind, victim, by=by, detail=detail)
        step.drop(victim)
        self._stop_running(victim)
        victim.status = RequestStatus.PREEMPTED
        victim.num_preemptions += 1
        self._counters.num_preemptions += 1
        self._waiting.add(victim)

    def _finish(self, request: Request, status: RequestStatus) -> None:
        if request.status is RequestStatus.RUNNING:
            self._stop_running(request)
            self._finished_req_ids.append(request.request_id)
        else:
            self._waiting.remove(request)
        del self._requests[request.request_id]
        self._started.pop(request.request_id, None)
        request.status = status

    def _stop_running(self, request: Request) -> None:
        self._running.remove(request)
        if not self._in_flight.hold(request):
            self._kv.free(request)
