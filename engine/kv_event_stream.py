"""What the core process does for subscribers of KV events: publish after each step, replay on wish.

The core has one thread, which sleeps on its socket to the API process while there is no work; with
a replay address it sleeps on that too.
"""

from __future__ import annotations

import select
import time

from .engine_core import EngineCore
from .kv_events import AllBlocksCleared, KVEventPublisher, events_on_wire


class KVEventStream:
    """The publisher of one core. The first message says that the cache is empty: a core that was
    started again after a crash counts from 0 again, and nothing of before is true."""

    def __init__(self, publisher: KVEventPublisher, core: EngineCore, *, block_size: int) -> None:
        self._publisher = publisher
        self._core = core
        self._block_size = block_size
        core.record_kv_events()
        publisher.publish([AllBlocksCleared()], now=time.time())

    def after_step(self) -> None:
        """Publish what the step did to the cache, and answer who asks."""
        events = self._core.take_kv_events()
        if events:
            wire = events_on_wire(events, block_size=self._block_size)
            self._publisher.publish(wire, now=time.time())
        self._publisher.answer_replays()

    def answer_until_readable(self, fileno: int) -> None:
        """Sleep until `fileno` is readable; meanwhile answer who asks."""
        self.after_step()  # an abort may have changed the cache without a step
        replay = self._publisher.replay_socket
        poll = select.poll()
        poll.register(fileno, select.POLLIN)
        if replay is not None:
            poll.register(replay.fileno(), select.POLLIN)
        while True:
            # ZeroMQ signals by edge: what is there is read to the end before we sleep again.
            self._publisher.answer_replays()
            if any(ready == fileno for ready, _ in poll.poll()):
                return
