"""The engine with the shape of Llama-3.1-8B and random bf16 weights, beside transformers.

Scheduler, runner and backend run in this process, without HTTP and tokenizer: what is measured is
what a GPU and its host spend on a step. Some 90 s, 50 of them for transformers.
"""

from __future__ import annotations

import gc
import sys
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from shoal.engine.config import EngineConfig
from shoal.engine.cuda_builder import CudaBuild, build_cuda
from shoal.engine.models.config import ModelConfig, load_config

from .decode_step import measure_decode_step
from .engine_load import measure_load
from .floors import Floors
from .llama_8b import model_files
from .transformers_load import measure_transformers

NUM_REQUESTS, PROMPT_LEN, OUTPUT_LEN = 256, 1024, 128
DECODES = ((1, 2048), (64, 2048), (256, 1088))
MAX_MODEL_LEN = 4096
TRANSFORMERS_LIMIT_S = 40.0
TRANSFORMERS_AT_ONCE = 48
"""Requests that transformers computes at once: without FlashAttention it was fastest with 48 of 16,
48 and 256 (96, 173 and 42 tokens a second on an H100)."""
STEP_TARGET = 1.25
"""Times the floor, of a decode step of 64 requests with 2,048 tokens each."""
RATIO_TARGET = 3.0
GAP_TARGET_US = 150
"""From the end of a decode step to the next one's inputs on the device."""


class _Progress:
    """Stages and their times on stderr."""

    def __init__(self) -> None:
        self._stage = ""
        self._started = time.monotonic()

    def update(self, stage: str, done: int, total: int | None) -> None:
        if stage != self._stage:
            self._stage = stage
            print(f"engine: {time.monotonic() - self._started:5.1f} s {stage}", file=sys.stderr)


def measure_engine(
    device: torch.device, floors: Floors, *, with_transformers: bool = True
) -> dict[str, Any]:
    """All figures as JSON; a peer that fails is told, not raised."""
    started = time.monotonic()
    prompts = random_prompts()
    figures = _measure_ours(floors, prompts)
    gc.collect()
    torch.cuda.empty_cache()
    ours = figures["load"]["output_tokens_per_s"]
    if with_transformers:
        try:
            peer = measure_transformers(
                device,
                prompts=prompts,
                output_len=OUTPUT_LEN,
                limit_s=TRANSFORMERS_LIMIT_S,
                max_requests_per_batch=TRANSFORMERS_AT_ONCE,
            )
            peer["ratio"] = round(ours / max(peer["output_tokens_per_s"], 1), 2)
        except Exception as error:
            peer = {"failed": f"{type(error).__name__}: {error}"[:300]}
        figures["transformers"] = peer
        print(f"engine: transformers {peer}", file=sys.stderr)
    figures["targets"] = {
        "times_floor": STEP_TARGET,
        "ratio_to_transformers": RATIO_TARGET,
        "device_gap_us": GAP_TARGET_US,
    }
    figures["seconds"] = round(time.monotonic() - started)
    return figures


def random_prompts() -> list[list[int]]:
    """Prompts that share no prefix, the same in every run."""
    rng = np.random.default_rng(0)
    shape = NUM_REQUESTS, PROMPT_LEN
    prompts: list[list[int]] = rng.integers(1000, 100_000, shape).tolist()
    return prompts


def _measure_ours(floors: Floors, prompts: list[list[int]]) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        files = model_files(Path(folder))
        model = load_config(files)
        config = EngineConfig(
            model=str(files.path),
            device="cuda",
            dtype="bfloat16",
            load_format="dummy",
            max_model_len=MAX_MODEL_LEN,
            itl_target_s=1.0,  # a batch job: nobody waits for the next token
        )
        scheduler = config.scheduler_config(max_model_len=MAX_MODEL_LEN)
        began = time.monotonic()
        built = build_cuda(config, files, model, scheduler, _Progress())
        start_s = time.monotonic() - began
    figures: dict[str, Any] = {"start": _start_figures(built, start_s)}
    figures["decode"] = [
        _shown(_decode(built, model, floors, num_reqs, context)) for num_reqs, context in DECODES
    ]
    # Once for a few tokens, so that what compiles at first use has compiled.
    measure_load(built.backend, scheduler, built.cache, prompts=prompts[:64], output_len=4)
    figures["load"] = _shown(
        measure_load(built.backend, scheduler, built.cache, prompts=prompts, output_len=OUTPUT_LEN)
    )
    return figures


def _decode(
    built: CudaBuild, model: ModelConfig, floors: Floors, num_reqs: int, context: int
) -> dict[str, Any]:
    return measure_decode_step(
        built.backend, model, built.cache, floors, num_reqs=num_reqs, context=context
    )


def _start_figures(built: CudaBuild, start_s: float) -> dict[str, Any]:
    return _shown(
        {
            "seconds": round(start_s, 1),
            "activation_gib": round(built.memory.activations / (1 << 30), 2),
            "kv_cache_gib": round(built.kv_cache_bytes / (1 << 30), 1),
            "graphs": None if built.graphs is None else asdict(built.graphs),
        }
    )


def _shown(figures: dict[str, Any]) -> dict[str, Any]:
    print(f"engine: {figures}", file=sys.stderr, flush=True)
    return figures
