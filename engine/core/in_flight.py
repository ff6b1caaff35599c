"""Steps that were decided and whose outputs are not known yet, and who must outlast them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from .output import SchedulerOutput
from .request import Request
from .step_time import StepShape

MAX_IN_FLIGHT = 2
"""One that runs and one behind it: with a third, ids that the host does not know would come from
two steps, and nothing would be gained, since the device never waits for the second."""


@dataclass(slots=True)
class StepInFlight:
    """A step, when it was decided (s), and what makes it long. Frozen would cost a microsecond."""

    output: SchedulerOutput
    scheduled_at: float
    shape: StepShape


class StepsInFlight:
    """Invariant: steps end in the order in which they began."""

    def __init__(self) -> None:
        self._steps: deque[StepInFlight] = deque()
        self._last_end = -inf
        self._held: dict[str, Request] = {}

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def num_tokens(self) -> Mapping[str, int]:
        """What the newest step computes of each request."""
        return self._steps[-1].output.num_scheduled_tokens

    @property
    def held(self) -> Iterable[Request]:
        """Requests that have ended, but a step in flight still reads and writes their blocks."""
        return self._held.values()

    def is_held(self, request_id: str) -> bool:
        return request_id in self._held

    def hold(self, request: Request) -> bool:
        """Keep a request that has ended until its last step is over; False if no step has it."""
        if not self._uses(request.request_id):
            return False
        self._held[request.request_id] = request
        return True

    def take_released(self) -> list[Request]:
        """Those whose last step is over: their blocks are to be freed."""
        if not self._held:
            return []
        return [self._held.pop(id_) for id_ in list(self._held) if not self._uses(id_)]

    def begin(self, step: StepInFlight) -> None:
        assert len(self._steps) < MAX_IN_FLIGHT
        self._steps.append(step)

    def end(self, output: SchedulerOutput, now: float) -> tuple[StepShape, float]:
        """The oldest step is over: its shape, and the seconds that it took.

        A step that was decided while another ran took the time since that one was over: what it
        spent waiting says nothing about itself.
        """
        step = self._steps.popleft()
        assert step.output is output, "steps end in the order in which they began"
        seconds = now - max(step.scheduled_at, self._last_end)
        self._last_end = now
        return step.shape, seconds

    def _uses(self, request_id: str) -> bool:
        return any(request_id in step.output.num_scheduled_tokens for step in self._steps)
