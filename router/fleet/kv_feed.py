"""Puts one worker's event batches in order: gaps, replays, restarts. Pure; sockets are elsewhere.

A publisher numbers its batches from 0. What comes in turn is applied at once. After a gap the
batches that follow are held while the missing ones are asked for; when those are no longer to be
had, everything known of the cache is void, and the index grows again from what comes. A number that
goes back under a newer time stamp is a new process: what was known is void too. (The numbers of a
late copy go back as well, but its time stamp is not newer.)
"""

from __future__ import annotations

from collections import deque

from ..messages import KVBlocks
from .kv_blocks import MAX_BLOCKS, KVBlockMap
from .kv_wire import KVEventBatch, KVEventDecoder

REPLAY_TIMEOUT_S = 5.0
"""Longest silence of a replay."""
MAX_HELD = 10_000
"""Batches held while a replay runs; as many as publishers keep."""


class KVFeed:
    """The events of one worker, in order."""

    def __init__(self, endpoint_id: str, *, can_replay: bool, max_blocks: int = MAX_BLOCKS) -> None:
        self.blocks = KVBlockMap(endpoint_id, max_blocks=max_blocks)
        self._can_replay = can_replay
        self._decoder = KVEventDecoder()
        self._expected = 0
        self._last_ts = float("-inf")
        self._held: deque[tuple[int, KVEventBatch | None]] = deque()
        self._is_replaying = False
        self._is_checking = False
        """Whether the replay begins with a batch that we know, if it is still the same process."""
        self._replay_deadline = 0.0
        self._replay_from: int | None = None
        self._restarts_known = 0
        self.num_batches = 0
        self.num_gaps = 0
        self.num_unfilled = 0
        """Gaps that no replay filled; the cache was declared unknown."""
        self.num_restarts = 0
        self.num_undecodable = 0

    def begin(self, now: float) -> None:
        """A new subscription: ask for what was published before it."""
        if self._can_replay:
            self._ask(now)

    def take_replay_request(self) -> int | None:
        """Number of the first batch to ask for, once; None: nothing to ask."""
        first, self._replay_from = self._replay_from, None
        return first

    def take(self) -> KVBlocks | None:
        """What changed since the last time."""
        return self.blocks.take()

    def published(self, number: int, payload: bytes, now: float) -> None:
        """A batch as it was published."""
        batch = self._decode(payload)
        if self._is_replaying:
            if len(self._held) >= MAX_HELD:
                self._held.popleft()  # shows as a gap when the replay has ended
            self._held.append((number, batch))
        else:
            self._in_order(number, batch, now)

    def replayed(self, number: int, payload: bytes, now: float) -> None:
        """A batch that was asked for."""
        if not self._is_replaying:
            return
        if self._is_checking:
            self._is_checking = False
            batch = self._decode(payload)
            is_known = batch is None or batch.ts == self._last_ts
            if number != self._expected - 1 or not is_known:
                self._restart(now)
                return
        if number < self._expected:
            return
        self._replay_deadline = now + REPLAY_TIMEOUT_S
        if number > self._expected:
            self._give_up(number)
        self._apply(number, self._decode(payload))

    def replay_ended(self, now: float) -> None:
        """All that could be replayed has been."""
        if not self._is_replaying:
            return
        if self._is_checking:
            self._restart(now)  # it has not published what we have of it
            return
        self._is_replaying = False
        held, self._held = self._held, deque()
        while held:
            number, batch = held.popleft()
            if number > self._expected:
                # The replay has just brought all there was.
                self._give_up(number)
            self._in_order(number, batch, now)
            if self._is_replaying:  # a restart was among the held ones
                self._held.extend(held)
                return

    def reconnected(self, now: float) -> None:
        """The connection was lost and is back: another process may be behind it, and what was
        published in between was not heard.

        The last batch we have is asked for once more. Who has it, with its time stamp, is who we
        knew; who has not is another.
        """
        if not self._expected:
            self.begin(now)  # nothing is known yet, but a request may have been lost
        elif not self._can_replay:
            self._restart(now)
        else:
            self._is_checking = True
            self._ask(now)
            self._replay_from = self._expected - 1

    def tick(self, now: float) -> None:
        """Call now and then: a replay that never ends is given up."""
        if self._is_replaying and now >= self._replay_deadline:
            self.replay_ended(now)

    def process_restarted(self, now: float) -> None:
        """Somebody else noticed that the worker is another process; maybe the numbers did too."""
        if self.num_restarts > self._restarts_known:
            self._restarts_known = self.num_restarts
            return
        self._restart(now)
        self._restarts_known = self.num_restarts

    def _in_order(self, number: int, batch: KVEventBatch | None, now: float) -> None:
        if number < self._expected:
            if batch is None or batch.ts <= self._last_ts:
                return
            self._restart(now)
            if self._is_replaying:
                self._held.append((number, batch))
                return
        if number > self._expected:
            self.num_gaps += 1
            if self._can_replay:
                self._ask(now)
                self._held.append((number, batch))
                return
            self._give_up(number)
        self._apply(number, batch)

    def _apply(self, number: int, batch: KVEventBatch | None) -> None:
        self._expected = number + 1
        if batch is None:
            return
        self.num_batches += 1
        self._last_ts = batch.ts
        for event in batch.events:
            self.blocks.apply(event)

    def _ask(self, now: float) -> None:
        self._is_replaying = True
        self._replay_from = self._expected
        self._replay_deadline = now + REPLAY_TIMEOUT_S

    def _give_up(self, number: int) -> None:
        """What came before `number` is lost."""
        if self._expected or self.blocks:
            self.num_unfilled += 1
            self.blocks.clear()
        self._expected = number

    def _restart(self, now: float) -> None:
        self.num_restarts += 1
        self.blocks.clear()
        self._expected = 0
        self._held.clear()
        self._is_replaying = self._is_checking = False
        if self._can_replay:
            self._ask(now)

    def _decode(self, payload: bytes) -> KVEventBatch | None:
        batch = self._decoder.decode(payload)
        if batch is None:
            self.num_undecodable += 1
        return batch
