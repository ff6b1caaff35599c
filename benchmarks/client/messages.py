"""What the measuring processes and their parent tell each other: msgpack frames over pipes.

A frame is its length in four bytes, big endian, then the message. Nothing is pickled.
"""

from __future__ import annotations

import asyncio

import msgspec

from shoal.benchmarks.measure.record import RequestRecord
from shoal.benchmarks.workload.arrivals import ArrivalSpec
from shoal.benchmarks.workload.spec import WorkloadSpec
from shoal.benchmarks.workload.tokens import TokenPool

from .conversation import RequestForm

MAX_FRAME_BYTES = 1 << 30


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """When requests are sent: one of `arrivals`, `concurrency` or the workload's own times."""

    arrivals: ArrivalSpec | None = None
    concurrency: int | None = None
    duration_s: float | None = None
    """No session starts later; those under way are finished."""
    num_sessions: int | None = None


class ClientPlan(msgspec.Struct, frozen=True, kw_only=True, tag="plan"):
    """All that one measuring process needs."""

    url: str
    headers: dict[str, str] = {}
    form: RequestForm
    workload: WorkloadSpec
    pool: TokenPool
    load: Load
    timeout_s: float = 600.0
    share: int = 0
    """This process takes sessions `share`, `share + num_shares`, ..."""
    num_shares: int = 1


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Begin at this reading of the monotonic clock, which processes of a machine share."""

    at: float


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The process has its plan and waits for the start."""


class Batch(msgspec.Struct, frozen=True, kw_only=True, tag="batch"):
    """Requests that ended since the last batch, and the state of the process."""

    records: list[RequestRecord]
    in_flight: int
    num_sent: int
    num_tokens: int
    """Chunks with tokens so far, those of unfinished answers included."""
    cpu_s: float


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag="finished"):
    """The last message. `problem` is set when the process could not do its work."""

    problem: str | None = None
    is_config_error: bool = False


FromClient = Ready | Batch | Finished
ToClient = ClientPlan | Start

_encoder = msgspec.msgpack.Encoder()


def frame(message: FromClient | ToClient) -> bytes:
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """The next message's bytes; None at the end of the pipe."""
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if size > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {size} bytes")
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        return None
