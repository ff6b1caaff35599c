"""The messages between the API process and the engine-core process: msgpack, one a frame.

    API process  -> core:  Load, then AddRequest, Abort and Profile in any number
    core -> API process:   Hello, LoadProgress..., Ready, then StepOutputs per step and
                           Rejected per refused request, Profiled per Profile; Fatal before an
                           exit that was not asked for

Structs travel as arrays, tag first: names cost no bytes. Both ends are always of one version,
since the one starts the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from .config import EngineConfig
from .core.output import EngineCoreOutputs, Rejection
from .core.sampling_params import SamplingParams
from .core.stats import SchedulerStats
from .sources.model_files import ModelFiles


class Load(msgspec.Struct, frozen=True, array_like=True, tag="load"):
    """Load this model and get ready; sent once, first."""

    config: EngineConfig
    files: ModelFiles


class AddRequest(msgspec.Struct, frozen=True, array_like=True, tag="add"):
    """A request that passed the checks of the API process."""

    request_id: str
    prompt_token_ids: list[int]
    sampling_params: SamplingParams
    eos_token_ids: tuple[int, ...]
    arrival_time: float
    """CLOCK_MONOTONIC, s: one time line for both processes."""
    priority: int
    cache_salt: str | None


class Abort(msgspec.Struct, frozen=True, array_like=True, tag="abort"):
    """Drop these requests; nothing more is said about them."""

    request_ids: list[str]


class Profile(msgspec.Struct, frozen=True, array_like=True, tag="profile"):
    """Start a profile of the core, or stop it and write it; answered by Profiled."""

    is_start: bool


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """The process runs and waits for its Load."""


class LoadProgress(msgspec.Struct, frozen=True, array_like=True, tag="progress"):
    """Loading has come so far; `total` is None when it is not known."""

    stage: str
    done: int
    total: int | None


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The model is loaded; what the API process has to know of it."""

    max_model_len: int
    vocab_size: int
    num_blocks: int
    block_size: int


class StepOutputs(msgspec.Struct, frozen=True, array_like=True, tag="step"):
    """One step. Sent for every step, so it is the heartbeat too."""

    num_steps: int
    outputs: EngineCoreOutputs
    stats: SchedulerStats


class Rejected(msgspec.Struct, frozen=True, array_like=True, tag="rejected"):
    """The scheduler refused a request at the door."""

    request_id: str
    rejection: Rejection


class Profiled(msgspec.Struct, frozen=True, array_like=True, tag="profiled"):
    """What became of a Profile."""

    path: str = ""
    """Where the trace is, once it was stopped."""
    error: str = ""
    """Why not."""


class Fatal(msgspec.Struct, frozen=True, array_like=True, tag="fatal"):
    """The core is about to exit because of this exception."""

    error: str
    """Name of the exception's class."""
    message: str


ToCore = Load | AddRequest | Abort | Profile
FromCore = Hello | LoadProgress | Ready | StepOutputs | Rejected | Profiled | Fatal


def _encode_path(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} does not travel between the processes")


def _decode_path(wanted: type, value: Any) -> Any:
    if wanted is Path:
        return Path(value)
    raise NotImplementedError(f"{wanted.__name__} does not travel between the processes")


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_path)
_to_core: msgspec.msgpack.Decoder[ToCore] = msgspec.msgpack.Decoder(ToCore, dec_hook=_decode_path)
_from_core: msgspec.msgpack.Decoder[FromCore] = msgspec.msgpack.Decoder(FromCore)


def encode(message: ToCore | FromCore) -> bytes:
    """Raises OverflowError for integers beyond 64 bits, UnicodeEncodeError for lone surrogates."""
    return _encoder.encode(message)


def decode_to_core(frame: bytes) -> ToCore:
    """Raises msgspec.DecodeError when the frame is not one of the messages."""
    return _to_core.decode(frame)


def decode_from_core(frame: bytes) -> FromCore:
    """Raises msgspec.DecodeError when the frame is not one of the messages."""
    return _from_core.decode(frame)
