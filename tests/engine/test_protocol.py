"""Every message survives the way to the other process."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shoal.engine import protocol
from shoal.engine.config import EngineConfig
from shoal.engine.core.output import (
    EngineCoreOutputs,
    Rejection,
    RejectionKind,
    Started,
    TokenLogprobs,
)
from shoal.engine.core.request import FinishReason
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.core.stats import SchedulerStats
from shoal.engine.sources.model_files import ModelFiles

TO_CORE: list[protocol.ToCore] = [
    protocol.Load(EngineConfig(model="m"), ModelFiles("m", Path("/models/m.gguf"), "gguf", "m")),
    protocol.AddRequest(
        request_id="7",
        prompt_token_ids=[1, 2, 3],
        sampling_params=SamplingParams(stop=("x",), logit_bias={5: -1.0}, seed=2**64 - 1),
        eos_token_ids=(2,),
        arrival_time=12.5,
        priority=-1,
        cache_salt="salt",
    ),
    protocol.Abort(["7", "8"]),
]

FROM_CORE: list[protocol.FromCore] = [
    protocol.Hello(),
    protocol.LoadProgress("loading", 3, None),
    protocol.Ready(max_model_len=8, vocab_size=9, num_blocks=10, block_size=11),
    protocol.StepOutputs(
        3,
        EngineCoreOutputs(
            req_ids=["7", "8"],
            new_token_ids=[[5], []],
            finish_reasons={"7": FinishReason.LENGTH, "9": FinishReason.TIMEOUT},
            started={"8": Started(queue_s=0.5, num_cached_tokens=16)},
            logprobs={"7": [TokenLogprobs([5, 6], [-0.5, -1.5], 1)]},
        ),
        SchedulerStats(num_running=2, reasons={"budget": 3}),
    ),
    protocol.Rejected("7", Rejection(RejectionKind.QUEUE_FULL, "full", retry_after_s=2.0)),
    protocol.Fatal("RuntimeError", "out of memory"),
]


@pytest.mark.parametrize("message", TO_CORE, ids=lambda m: type(m).__name__)
def test_to_core(message: protocol.ToCore) -> None:
    assert protocol.decode_to_core(protocol.encode(message)) == message


@pytest.mark.parametrize("message", FROM_CORE, ids=lambda m: type(m).__name__)
def test_from_core(message: protocol.FromCore) -> None:
    assert protocol.decode_from_core(protocol.encode(message)) == message


def test_a_running_decode_costs_few_bytes() -> None:
    outputs = EngineCoreOutputs(
        req_ids=[str(1000 + i) for i in range(256)], new_token_ids=[[40_000]] * 256
    )
    frame = protocol.encode(protocol.StepOutputs(1, outputs, SchedulerStats()))
    assert len(frame) < 256 * 12 + 400


def test_a_foreign_frame_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        protocol.decode_from_core(protocol.encode(protocol.Abort(["1"])))
    with pytest.raises(msgspec.DecodeError):
        protocol.decode_to_core(b"\xc1")
