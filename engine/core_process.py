"""The engine-core process: `python -m shoal.engine.core_process SOCKET PARENT_PID`.

It is started as a program of its own (never forked from a threaded process), inherits a socket to
the API process by its number, loads what `Load` names, and then steps while there is work and
sleeps while there is none. It dies with its parent, and SIGINT is the parent's business: Ctrl-C in
a terminal reaches both, and the parent first lets running requests end.
"""

from __future__ import annotations

import gc
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from shoal.die_with_parent import die_with
from shoal.frames import BlockingFrames, PeerGone

from . import protocol
from .core.request import Request
from .engine_core import EngineCore
from .runner.profiler import ProfilerError
from .sources.progress import Progress

if TYPE_CHECKING:
    from .kv_event_stream import KVEventStream

BuildCore = Callable[[protocol.Load, Progress], tuple[EngineCore, protocol.Ready]]
"""Makes a core that is ready to step: loads, allocates, warms up."""


def run(build: BuildCore, *, prepare: Callable[[], None] = lambda: None) -> int:
    """Serve the API process named on the command line until it ends us; the exit status.

    `prepare` is called while there is nothing to build yet: it imports what `build` needs.
    """
    frames = BlockingFrames(socket.socket(fileno=int(sys.argv[1])))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(int(sys.argv[2]))
    try:
        _serve(frames, build, prepare)
    except PeerGone:
        return 0  # whatever the API process wanted, nobody waits for it
    except Exception as error:
        traceback.print_exc()
        _send(frames, protocol.Fatal(error=type(error).__name__, message=str(error)))
        return 1


class _SendProgress:
    """A `Progress` that the API process hears."""

    def __init__(self, frames: BlockingFrames) -> None:
        self._frames = frames

    def update(self, stage: str, done: int, total: int | None) -> None:
        _send(self._frames, protocol.LoadProgress(stage, done, total))


def _serve(frames: BlockingFrames, build: BuildCore, prepare: Callable[[], None]) -> NoReturn:
    _send(frames, protocol.Hello())
    prepare()
    first = frames.receive(wait=True)
    assert first is not None
    load = protocol.decode_to_core(first)
    if not isinstance(load, protocol.Load):
        raise TypeError(f"the first message must be Load, got {type(load).__name__}")
    start_events = _bind_events(load)
    # What loading makes lives for ever: collections that look at it while it grows, or later
    # between steps, are for nothing.
    gc.disable()
    core, ready = build(load, _SendProgress(frames))
    events = None if start_events is None else start_events(core, ready.block_size)
    _send(frames, ready)
    gc.collect()
    gc.freeze()
    gc.enable()
    while True:
        _receive(frames, core, events)
        outputs = core.step()
        _send(frames, protocol.StepOutputs(core.num_steps, outputs, core.stats()))
        if events is not None:
            events.after_step()


def _bind_events(load: protocol.Load) -> Callable[[EngineCore, int], KVEventStream] | None:
    """Bind before the model is loaded: an address that is taken is to be known at once."""
    endpoint = load.config.kv_events_endpoint
    if endpoint is None:
        return None
    from .kv_event_stream import KVEventStream  # zeromq and its threads are for those who ask
    from .kv_events import KVEventPublisher

    publisher = KVEventPublisher(endpoint, load.config.kv_events_replay_endpoint)
    return lambda core, block_size: KVEventStream(publisher, core, block_size=block_size)


def _next_frame(
    frames: BlockingFrames, core: EngineCore, events: KVEventStream | None
) -> bytes | None:
    if events is None or core.has_work():
        return frames.receive(wait=not core.has_work())
    while (frame := frames.receive(wait=False)) is None:
        events.answer_until_readable(frames.fileno())
    return frame


def _receive(frames: BlockingFrames, core: EngineCore, events: KVEventStream | None) -> None:
    """Take all messages that are there; sleep until there is work."""
    while (frame := _next_frame(frames, core, events)) is not None:
        message = protocol.decode_to_core(frame)
        if isinstance(message, protocol.AddRequest):
            rejection = core.add_request(_to_request(message))
            if rejection is not None:
                _send(frames, protocol.Rejected(message.request_id, rejection))
        elif isinstance(message, protocol.Abort):
            core.abort(message.request_ids)
        elif isinstance(message, protocol.Profile):
            _send(frames, _profile(core, message))


def _profile(core: EngineCore, message: protocol.Profile) -> protocol.Profiled:
    """Between two steps; the one in flight goes on."""
    profiler = core.profiler
    if profiler is None:
        return protocol.Profiled(error="this engine core has no profiler")
    try:
        if message.is_start:
            profiler.start()
            return protocol.Profiled()
        return protocol.Profiled(path=profiler.stop())
    except ProfilerError as error:
        return protocol.Profiled(error=str(error))


def _to_request(message: protocol.AddRequest) -> Request:
    return Request(
        message.request_id,
        message.prompt_token_ids,
        sampling_params=message.sampling_params,
        arrival_time=message.arrival_time,
        eos_token_ids=message.eos_token_ids,
        priority=message.priority,
        cache_salt=message.cache_salt,
    )


def _send(frames: BlockingFrames, message: protocol.FromCore) -> None:
    frames.send(protocol.encode(message))


def build_real_core(load: protocol.Load, progress: Progress) -> tuple[EngineCore, protocol.Ready]:
    """The core of the model that `load` names."""
    from .core_builder import build_core

    return build_core(load, progress)


def import_builder() -> None:
    """Takes half a second, so the API process hears of us first."""
    from . import core_builder  # noqa: F401


if __name__ == "__main__":
    sys.exit(run(build_real_core, prepare=import_builder))
