"""What the HTTP server needs of an engine; `AsyncEngine` is one, tests bring a fake."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from ..core.sampling_params import SamplingParams
from ..output import EngineStats, Health, KVEventEndpoints, RequestOutput
from ..tokenizer.tokenizer import Tokenizer


class Profiler(Protocol):
    """Takes one profile at a time. Raises RequestError."""

    async def start(self) -> None: ...

    async def stop(self) -> str:
        """The path of the trace."""


class Engine(Protocol):
    """Until `is_ready` only `is_ready` and `health` may be used."""

    @property
    def is_ready(self) -> bool: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def model_name(self) -> str: ...

    @property
    def max_model_len(self) -> int: ...

    @property
    def kv_event_endpoints(self) -> KVEventEndpoints:
        """Where changes of its prefix cache are published."""

    @property
    def profiler(self) -> Profiler:
        """Raises RequestError when profiles are switched off, or nobody can take one now."""

    @property
    def created(self) -> int:
        """When the model was loaded, Unix seconds."""

    def generate(
        self,
        prompt_token_ids: list[int],
        sampling_params: SamplingParams,
        *,
        request_id: str,
        priority: int = 0,
        cache_salt: str | None = None,
    ) -> AsyncGenerator[RequestOutput, None]:
        """Deltas of one sequence. Closing the generator aborts; raises RequestError."""

    def health(self) -> Health: ...

    def stats(self) -> EngineStats: ...
