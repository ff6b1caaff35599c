"""Replicas that start, serve, drain and go, a router before them, and what a scaler sees of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from shoal.autoscaler.core.observation import Observation, VariantObservation

from .event_loop import Event, EventLoop
from .replica import Replica, ReplicaSpec
from .request import SimRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class StartUp:
    """Seconds from the order of a replica to its first request: schedule, pull, load, warm up."""

    mean_s: float = 60.0
    spread: float = 0.1
    """Relative half-width of the uniform distribution around the mean."""

    def draw(self, rng: Random) -> float:
        return self.mean_s * (1 + self.spread * (2 * rng.random() - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """What a request must meet. A promise to users holds for a share of requests: see `measure`."""

    ttft_s: float = 2.0
    tpot_s: float = 0.1

    def is_met(self, request: SimRequest) -> bool:
        ttft, tpot = request.ttft_s, request.tpot_s
        return ttft is not None and tpot is not None and ttft <= self.ttft_s and tpot <= self.tpot_s


@dataclass(slots=True, eq=False)
class Member:
    """A replica with its life: ordered, ready, draining, gone."""

    ordered_s: float
    replica: Replica
    ready_s: float | None = None
    draining: bool = False
    start: Event | None = None


@dataclass(slots=True)
class _Interval:
    """Counts since the last observation."""

    arrivals: int = 0
    input_tokens: int = 0
    first_tokens: int = 0
    in_time: int = 0
    finished: int = 0
    tpot_in_time: int = 0
    tpots: list[float] = field(default_factory=list)
    start_up_s: list[float] = field(default_factory=list)


class Fleet:
    """One model, one variant. Requests go to the ready replica with the fewest; with none ready
    they are held. Scaling down takes replicas without a place first, then those that are still
    starting, then the newest.
    """

    def __init__(
        self,
        loop: EventLoop,
        *,
        spec: ReplicaSpec | None = None,
        start_up: StartUp | None = None,
        slo: Slo | None = None,
        seed: int = 0,
        name: str = "default",
    ) -> None:
        self.name = name
        self._loop = loop
        self._spec = spec or ReplicaSpec()
        self._start_up = start_up or StartUp()
        self.slo = slo or Slo()
        self._rng = Random(seed)
        self._members: list[Member] = []
        self._ready: list[Member] = []
        """Of `_members`, in the same order: those that take requests."""
        self._gone_output = self._gone_input = 0
        self._held: deque[SimRequest] = deque()
        self._interval = _Interval()
        self._seen_output = self._seen_input = self._seen_running = 0
        self._desired = 0
        self.replica_s = 0.0
        """Seconds that replicas have existed, from their order until they were gone."""
        self._counted_to = 0.0
        self._places: int | None = None
        self._unplaced = 0
        """Ordered, and without a place so far."""
        self.on_finished: Callable[[SimRequest], None] = lambda request: None
        self.on_ready: Callable[[], None] = lambda: None

    # -- requests ------------------------------------------------------------------------

    def submit(self, request: SimRequest) -> None:
        self._interval.arrivals += 1
        self._interval.input_tokens += request.num_input_tokens - request.num_cached_tokens
        self._held.append(request)
        self._dispatch()

    def _dispatch(self) -> None:
        """Give what is held to the ready replicas, if there are any."""
        if ready := self._ready:
            while self._held:
                fewest = ready[0].replica
                for member in ready:
                    if member.replica.num_requests < fewest.num_requests:
                        fewest = member.replica
                fewest.add(self._held.popleft())

    def _first_token(self, request: SimRequest) -> None:
        self._interval.first_tokens += 1
        assert request.ttft_s is not None
        self._interval.in_time += request.ttft_s <= self.slo.ttft_s

    def _finished(self, request: SimRequest) -> None:
        interval, tpot = self._interval, request.tpot_s
        interval.finished += 1
        interval.tpot_in_time += tpot is not None and tpot <= self.slo.tpot_s
        if tpot is not None and request.num_output_tokens > 1:
            interval.tpots.append(tpot)
        self.on_finished(request)
        if len(self._ready) < len(self._members):
            for member in [m for m in self._members if m.draining]:
                self._remove_if_idle(member)

    # -- replicas ------------------------------------------------------------------------

    @property
    def num_replicas(self) -> int:
        """All that cost something: starting, ready and draining."""
        return len(self._members)

    @property
    def num_ready(self) -> int:
        return len(self._ready)

    @property
    def fewest_requests(self) -> int | None:
        """Of a ready replica; None if none is ready."""
        return min((m.replica.num_requests for m in self._ready), default=None)

    def scale_to(self, desired: int, *, at_once: bool = False) -> None:
        """Order what is missing, or take away what is too much. `at_once`: without start-up."""
        self.count_to_now()
        self._desired = desired
        active = [m for m in self._members if not m.draining]
        self._unplaced = max(desired - len(active), 0)
        self._place(at_once=at_once)
        # Those still starting go first, then the newest.
        active.sort(key=lambda m: (m.ready_s is None, m.ordered_s), reverse=True)
        self._give_up(active[: max(len(active) - desired, 0)])

    def set_places(self, places: int | None) -> None:
        """Room for so many replicas from now on, the longest there first. Those that are too many
        drain and are ordered anew; None: for any number."""
        self.count_to_now()
        self._places = places
        active = [m for m in self._members if not m.draining]
        surplus = active[len(active) if places is None else places :]
        self._unplaced += len(surplus)
        self._give_up(surplus)
        self._place()

    def _place(self, *, at_once: bool = False) -> None:
        """Start those that wait for a place, as far as there is one."""
        room = self._unplaced
        if self._places is not None:
            room = min(room, max(self._places - len(self._members), 0))
        for _ in range(room):
            self._unplaced -= 1
            self._order(0.0 if at_once else self._start_up.draw(self._rng))

    def _give_up(self, members: list[Member]) -> None:
        for member in members:
            if member.start is not None and member.ready_s is None:
                member.start.cancel()
            member.draining = True
            self._remove_if_idle(member)
        self._choose_ready()

    def _order(self, start_up_s: float) -> None:
        now = self._loop.now()
        member = Member(
            now,
            Replica(self._loop, self._spec, first_token=self._first_token, finished=self._finished),
        )
        self._members.append(member)
        if start_up_s:
            member.start = self._loop.at(now + start_up_s, lambda: self._become_ready(member))
        else:
            self._become_ready(member)

    def _become_ready(self, member: Member) -> None:
        member.ready_s = self._loop.now()
        if member.start is not None:
            self._interval.start_up_s.append(member.ready_s - member.ordered_s)
        self._choose_ready()
        self._dispatch()
        self.on_ready()

    def _remove_if_idle(self, member: Member) -> None:
        if member.replica.num_requests == 0:
            self.count_to_now()
            self._members.remove(member)
            self._gone_output += member.replica.output_tokens
            self._gone_input += member.replica.input_tokens
            self._place()

    def _choose_ready(self) -> None:
        self._ready = [m for m in self._members if m.ready_s is not None and not m.draining]

    def count_to_now(self) -> None:
        """Bring `replica_s` up to date."""
        now = self._loop.now()
        self.replica_s += (now - self._counted_to) * len(self._members)
        self._counted_to = now

    # -- what is seen ---------------------------------------------------------------------

    def observe(self, interval_s: float) -> Observation:
        """What happened since the last call, `interval_s` ago."""
        self.count_to_now()
        interval, self._interval = self._interval, _Interval()
        ready = self._ready
        output = self._gone_output + sum(m.replica.output_tokens for m in self._members)
        computed = self._gone_input + sum(m.replica.input_tokens for m in self._members)
        new_output, self._seen_output = output - self._seen_output, output
        new_input, self._seen_input = computed - self._seen_input, computed
        running = sum(m.replica.num_running for m in ready)
        mean_running, self._seen_running = (self._seen_running + running) / 2, running
        variant = VariantObservation(
            name=self.name,
            desired=self._desired,
            ready=len(ready),
            pending=sum(m.ready_s is None for m in self._members) + self._unplaced,
            unschedulable=self._unplaced,
            draining=sum(m.draining for m in self._members),
            num_running=mean_running,
            num_waiting=sum(m.replica.num_waiting for m in ready),
            kv_usage=max((m.replica.kv_usage for m in ready), default=None),
            input_tokens_per_s=new_input / interval_s,
            output_tokens_per_s=new_output / interval_s,
            tpot_s=sum(interval.tpots) / len(interval.tpots) if interval.tpots else None,
            num_finished=interval.finished,
            num_first_tokens=interval.first_tokens,
            num_in_time=interval.in_time,
            num_tpot_in_time=interval.tpot_in_time,
            start_up_s=tuple(interval.start_up_s),
        )
        return Observation(
            interval_s=interval_s,
            arrivals=interval.arrivals,
            input_tokens=interval.input_tokens,
            output_tokens=new_output,
            queued=0,
            held=len(self._held),
            variants=(variant,),
        )
