"""An engine-core program without a model: real loop, real scheduler, a runner that echoes.

Run it as the core command of an engine. Prompts are bytes, see `ByteTokenizer`; ids from 256 on
are orders to the runner.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from shoal.clock import MonotonicClock
from shoal.engine import core_process, protocol
from shoal.engine.core.config import CacheConfig
from shoal.engine.core.output import ModelRunnerOutput, SchedulerOutput, TokenLogprobs
from shoal.engine.core.scheduler import Scheduler
from shoal.engine.engine_core import EngineCore
from shoal.engine.runner.pending import Computed
from shoal.engine.runner.profiler import ProfilerError
from shoal.engine.sources.progress import Progress
from shoal.errors import UnsupportedModel

FAKE_CORE_COMMAND = (sys.executable, str(Path(__file__)))
MAX_MODEL_LEN = 1000
NUM_BLOCKS, BLOCK_SIZE = 101, 16

EOS = 0
KILL, RAISE, HANG, SLOW = 256, 257, 258, 259
"""In a prompt: die by SIGKILL, raise, sleep for ever, take 10 ms for each step."""
VOCAB_SIZE = 260


class ByteTokenizer:
    """Stands in for `Tokenizer`: one token a byte."""

    vocab_size = VOCAB_SIZE
    eos_token_ids = (EOS,)
    special_token_ids = frozenset({EOS, KILL, RAISE, HANG, SLOW})
    strips_leading_space = False

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else b""


class EchoRunner:
    """Samples the bytes of the prompt, again and again."""

    def __init__(self) -> None:
        self._prompts: dict[str, list[int]] = {}
        self._num_known: dict[str, int] = {}
        self._num_computed: dict[str, int] = {}
        self._wants_logprobs: set[str] = set()

    def submit(self, out: SchedulerOutput) -> Computed[ModelRunnerOutput]:
        return Computed(self._execute(out))

    def _execute(self, out: SchedulerOutput) -> ModelRunnerOutput:
        for new in out.scheduled_new_reqs:
            self._prompts[new.request_id] = new.token_ids[: new.num_prompt_tokens]
            self._num_known[new.request_id] = len(new.token_ids)
            self._num_computed[new.request_id] = new.num_computed_tokens
            if new.sampling_params.logprobs is not None:
                self._wants_logprobs.add(new.request_id)
            self._obey(new.token_ids)
        if any(SLOW in self._prompts[request_id] for request_id in out.num_scheduled_tokens):
            time.sleep(0.01)
        sampled = [self._sample(*scheduled) for scheduled in out.num_scheduled_tokens.items()]
        return ModelRunnerOutput(
            req_ids=list(out.num_scheduled_tokens),
            sampled_token_ids=sampled,
            logprobs={
                request_id: [TokenLogprobs([token_id], [-0.5], 1) for token_id in token_ids]
                for request_id, token_ids in zip(out.num_scheduled_tokens, sampled, strict=True)
                if request_id in self._wants_logprobs
            },
        )

    def _sample(self, request_id: str, num_tokens: int) -> list[int]:
        self._num_computed[request_id] += num_tokens
        known = self._num_known[request_id]
        if self._num_computed[request_id] < known:
            return []
        self._num_known[request_id] += 1
        text = [token_id for token_id in self._prompts[request_id] if token_id < 256]
        num_outputs = known - len(self._prompts[request_id])
        return [text[num_outputs % len(text)]]

    def _obey(self, token_ids: Sequence[int]) -> None:
        if KILL in token_ids:
            os.kill(os.getpid(), signal.SIGKILL)
        if RAISE in token_ids:
            raise RuntimeError("the runner was told to fail")
        while HANG in token_ids:
            time.sleep(60)


class EchoProfiler:
    """Says what it was asked."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._is_running = False

    def start(self) -> None:
        if self._is_running:
            raise ProfilerError("it runs already")
        self._is_running = True

    def stop(self) -> str:
        if not self._is_running:
            raise ProfilerError("it does not run")
        self._is_running = False
        return f"{self._folder}/trace"


def build(load: protocol.Load, progress: Progress) -> tuple[EngineCore, protocol.Ready]:
    if load.config.model == "unsupported":
        raise UnsupportedModel("no such architecture")
    while load.config.model == "never-loads":
        time.sleep(60)
    progress.update("pretending to load", 1, 1)
    scheduler = Scheduler(
        load.config.scheduler_config(max_model_len=MAX_MODEL_LEN),
        CacheConfig(num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE),
    )
    ready = protocol.Ready(
        max_model_len=MAX_MODEL_LEN,
        vocab_size=VOCAB_SIZE,
        num_blocks=NUM_BLOCKS,
        block_size=BLOCK_SIZE,
    )
    folder = load.config.torch_profiler_dir
    profiler = None if folder in (None, "none") else EchoProfiler(folder)
    core = EngineCore(
        scheduler,
        EchoRunner(),
        MonotonicClock(),
        max_in_flight=2 if load.config.model == "overlaps" else 1,
        profiler=profiler,
    )
    return core, ready


if __name__ == "__main__":
    sys.exit(core_process.run(build))
