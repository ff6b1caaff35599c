"""A load without requests: so many a second, shared evenly by those who are there. Pure.

Each request takes as long as `core.work` expects of a GPU of the day, so a scaler has nothing to
learn first: with the default objective one replica is enough for 11.4 requests a second. Beyond
13.6 requests wait at the worker, and their first tokens are late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shoal import metrics as names
from shoal.autoscaler.core.work import PRIOR

INPUT_TOKENS, OUTPUT_TOKENS = 1000, 100
REQUEST_LOAD_S = PRIOR.load(INPUT_TOKENS, OUTPUT_TOKENS)
"""0.07: seconds of a replica's time that one request takes."""
FULL = 0.95
"""Share of its time that a replica gives at the most."""
IN_TIME_S, LATE_S = 0.1, 5.0


@dataclass(slots=True)
class Worker:
    """What one worker has counted. Sums only ever grow, as counters do."""

    started: float
    """Unix time."""
    requests: float = 0.0
    in_time: float = 0.0
    """Requests whose first token was in time."""
    token_gap_s: float = 0.0
    """Sum of the times between tokens."""
    waiting: float = 0.0
    """Requests that came and have no place in its batch yet."""
    load: float = 0.0
    """Share of its time that it gives now."""

    def serve(self, rate: float, seconds: float) -> None:
        """`rate` requests a second came for so long."""
        come = self.waiting + rate * seconds
        most = FULL / REQUEST_LOAD_S * seconds
        done = min(come, most)
        self.waiting = come - done
        self.load = done / seconds * REQUEST_LOAD_S if seconds > 0 else self.load
        self.requests += done
        self.in_time += done if self.is_in_time else 0.0
        self.token_gap_s += done * OUTPUT_TOKENS * self.tpot_s

    @property
    def is_in_time(self) -> bool:
        return self.waiting == 0

    @property
    def tpot_s(self) -> float:
        return PRIOR.base_s / (1 - self.load)

    @property
    def ttft_s(self) -> float:
        return IN_TIME_S if self.is_in_time else LATE_S

    @property
    def num_running(self) -> float:
        return self.load / REQUEST_LOAD_S * OUTPUT_TOKENS * self.tpot_s

    def page(self) -> str:
        """Its metrics, as far as a scaler reads them."""
        lines = [
            (names.NUM_REQUESTS_RUNNING, self.num_running),
            (names.NUM_REQUESTS_WAITING, self.waiting),
            (names.KV_CACHE_USAGE_PERC, min(self.num_running / 200, 1.0)),
            (names.PROMPT_TOKENS, self.requests * INPUT_TOKENS),
            (names.GENERATION_TOKENS, self.requests * OUTPUT_TOKENS),
            (names.REQUEST_SUCCESS, self.requests),
            (f"{names.INTER_TOKEN_LATENCY}_count", self.requests * OUTPUT_TOKENS),
            (f"{names.INTER_TOKEN_LATENCY}_sum", self.token_gap_s),
            (f'{names.TIME_TO_FIRST_TOKEN}_bucket{{le="1.0"}}', self.in_time),
            (f'{names.TIME_TO_FIRST_TOKEN}_bucket{{le="+Inf"}}', self.requests),
            (names.PROCESS_START_TIME, self.started),
        ]
        return "".join(f"{name} {value!r}\n" for name, value in lines)


def share(rate: float, seconds: float, workers: Sequence[Worker]) -> None:
    """Spread a load evenly."""
    for worker in workers:
        worker.serve(rate / len(workers), seconds)
