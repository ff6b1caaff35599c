"""Engines over a core process of fakes, and what their tests look at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import psutil

from shoal.engine.async_engine import AsyncEngine
from shoal.engine.config import EngineConfig
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.core_client import CoreClient
from shoal.engine.output import RequestOutput
from shoal.engine.sources.model_files import ModelFiles
from shoal.engine.tokenizer.tokenizer import Tokenizer
from shoal.errors import ModelNotFound
from tests.engine.fake_core import FAKE_CORE_COMMAND, ByteTokenizer

StartEngine = Callable[..., Awaitable[AsyncEngine]]


def load_byte_tokenizer(files: ModelFiles) -> Tokenizer:
    if files.name == "no-tokenizer":
        raise ModelNotFound("no tokenizer.json")
    return cast(Tokenizer, ByteTokenizer())


def make_engine(
    *,
    core_command: Sequence[str] = FAKE_CORE_COMMAND,
    spare_core: CoreClient | None = None,
    **config: Any,
) -> AsyncEngine:
    return AsyncEngine(
        EngineConfig(**{"model": "echo", **config}),
        resolve=lambda model, *, progress: ModelFiles(model, Path("nowhere"), "gguf", model),
        load_tokenizer=load_byte_tokenizer,
        core_command=core_command,
        spare_core=spare_core,
    )


def outputs(
    engine: AsyncEngine,
    prompt: str | list[int],
    *,
    request_id: str = "r",
    priority: int = 0,
    **params: Any,
) -> AsyncGenerator[RequestOutput, None]:
    return engine.generate(
        list(prompt.encode()) if isinstance(prompt, str) else prompt,
        SamplingParams(**params),
        request_id=request_id,
        priority=priority,
    )


async def complete(*args: Any, **kwargs: Any) -> RequestOutput:
    """All outputs of a request as one."""
    result: RequestOutput | None = None
    async for output in outputs(*args, **kwargs):
        assert result is None or result.finish_reason is None
        result = output if result is None else result.followed_by(output)
    assert result is not None
    return result


async def wait_until(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the engine has no event for it
            await asyncio.sleep(0.005)


def core_pids() -> list[int]:
    children = psutil.Process().children()
    return [child.pid for child in children if FAKE_CORE_COMMAND[1] in child.cmdline()]


def core_pid() -> int:
    (pid,) = core_pids()
    return pid
