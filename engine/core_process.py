"""The engine-core process: `python -m shoal.engine.core_process ENDPOINT PARENT_PID`.

It is started as a program of its own (never forked from a threaded process), connects to the
socket of the API process, loads what `Load` names, and then steps while there is work and sleeps
while there is none. It dies with its parent, and SIGINT is the parent's business: Ctrl-C in a
terminal reaches both, and the parent first lets running requests end.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

import zmq

from . import protocol
from .core.request import Request
from .engine_core import EngineCore
from .sources.progress import Progress

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


BuildCore = Callable[[protocol.Load, Progress], tuple[EngineCore, protocol.Ready]]
"""Makes a core that is ready to step: loads, allocates, warms up."""


def run(build: BuildCore) -> int:
    """Serve the API process named on the command line until it ends us; the exit status."""
    endpoint, parent_pid = sys.argv[1], int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(parent_pid)
    context = zmq.Context()
    socket: zmq.Socket[bytes] = context.socket(zmq.PAIR)
    socket.set(zmq.SNDHWM, 0)
    socket.connect(endpoint)
    try:
        _serve(socket, build)
    except Exception as error:
        traceback.print_exc()
        _send(socket, protocol.Fatal(error=type(error).__name__, message=str(error)))
        return 1
    finally:
        # Waits for the last message to leave, but not for a parent that no longer reads.
        context.destroy(linger=2_000)


def _die_with(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent is gone, however that happens."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it went before we asked
        sys.exit(1)


class _SendProgress:
    """A `Progress` that the API process hears."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket

    def update(self, stage: str, done: int, total: int | None) -> None:
        _send(self._socket, protocol.LoadProgress(stage, done, total))


def _serve(socket: zmq.Socket[bytes], build: BuildCore) -> NoReturn:
    _send(socket, protocol.Hello())
    load = protocol.decode_to_core(socket.recv())
    if not isinstance(load, protocol.Load):
        raise TypeError(f"the first message must be Load, got {type(load).__name__}")
    # What loading makes lives for ever: collections that look at it while it grows, or later
    # between steps, are for nothing.
    gc.disable()
    core, ready = build(load, _SendProgress(socket))
    _send(socket, ready)
    gc.collect()
    gc.freeze()
    gc.enable()
    while True:
        _receive(socket, core)
        outputs = core.step()
        _send(socket, protocol.StepOutputs(core.num_steps, outputs, core.stats()))


def _receive(socket: zmq.Socket[bytes], core: EngineCore) -> None:
    """Take all messages that are there; sleep until there is work."""
    while True:
        try:
            frame = socket.recv(zmq.DONTWAIT if core.has_work() else 0)
        except zmq.Again:
            return
        message = protocol.decode_to_core(frame)
        if isinstance(message, protocol.AddRequest):
            rejection = core.add_request(_to_request(message))
            if rejection is not None:
                _send(socket, protocol.Rejected(message.request_id, rejection))
        elif isinstance(message, protocol.Abort):
            core.abort(message.request_ids)


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


def _send(socket: zmq.Socket[bytes], message: protocol.FromCore) -> None:
    socket.send(protocol.encode(message))


def build_real_core(load: protocol.Load, progress: Progress) -> tuple[EngineCore, protocol.Ready]:
    """The core of the model that `load` names."""
    from .core_builder import build_core  # takes time, so the API process hears of us first

    return build_core(load, progress)


if __name__ == "__main__":
    sys.exit(run(build_real_core))
