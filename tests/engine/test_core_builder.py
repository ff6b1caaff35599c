"""The real core: what building it refuses, and one question to a real model."""

from __future__ import annotations

import contextlib

import pytest

from shoal.engine.async_engine import AsyncEngine
from shoal.engine.config import EngineConfig
from shoal.engine.core.config import CacheConfig, SchedulerConfig
from shoal.engine.core.output import ModelRunnerOutput, SchedulerOutput
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.core_builder import build_core, warm_up
from shoal.engine.protocol import Load
from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.sources.progress import NoProgress
from shoal.errors import ConfigError
from tests.builders import FakeRunner


class RecordingRunner(FakeRunner):
    """Keeps the number of tokens of each step."""

    def __init__(self, *, block_size: int) -> None:
        super().__init__(block_size=block_size)
        self.steps: list[int] = []

    def execute_model(self, out: SchedulerOutput) -> ModelRunnerOutput:
        self.steps.append(out.total_num_scheduled_tokens)
        return super().execute_model(out)


def test_warm_up_prefills_and_decodes_and_leaves_no_request() -> None:
    runner = RecordingRunner(block_size=16)
    warm_up(runner, SchedulerConfig(), CacheConfig(num_blocks=10))
    assert runner.steps == [8, 1, 0]
    assert runner.tokens == {}


def test_warm_up_fits_the_smallest_engine() -> None:
    runner = FakeRunner(block_size=1)
    config = SchedulerConfig(max_num_seqs=1, max_num_batched_tokens=1, max_model_len=2)
    warm_up(runner, config, CacheConfig(num_blocks=3, block_size=1))
    assert runner.tokens == {}


def test_a_context_beyond_the_model_is_refused_with_both_numbers(smollm2: ModelFiles) -> None:
    config = EngineConfig(model="smollm2", max_model_len=100_000)
    with pytest.raises(ConfigError, match=r"100000.*8192"):
        build_core(Load(config, smollm2), NoProgress())


async def test_a_real_model_answers(smollm2: ModelFiles) -> None:
    config = EngineConfig(model=str(smollm2.path), served_model_name="smol", max_model_len=512)
    engine = AsyncEngine(config)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(engine.shutdown)
        await engine.start()
        assert engine.model_name == "smol"
        assert engine.max_model_len == 512
        messages = [{"role": "user", "content": "What is the capital of Japan?"}]
        prompt = engine.tokenizer.apply_chat_template(messages)
        text, finish_reason = "", None
        async for output in engine.generate(
            engine.tokenizer.encode(prompt, add_special_tokens=False),
            SamplingParams(max_tokens=20, temperature=0.0),
            request_id="capital",
        ):
            text += output.text
            finish_reason = output.finish_reason
        assert text == "The capital of Japan is Tokyo."
        assert finish_reason == "stop"
