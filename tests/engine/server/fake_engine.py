"""An engine of one process and no model: it says `REPLY`, a byte a token, on command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from shoal.engine.core.output import TokenLogprobs
from shoal.engine.core.sampling_params import SamplingParams
from shoal.engine.core.stats import SchedulerStats
from shoal.engine.output import EngineStats, Health, KVEventEndpoints, RequestOutput
from shoal.errors import InvalidRequest, NotFound, RequestError

REPLY = "Hello, wörld! "
EOS = 256


class ByteTokenizer:
    """Token ids are the bytes of the text; 256 ends a text."""

    vocab_size = 257
    eos_token_ids = (EOS,)
    bos_token_id = None
    has_chat_template = True

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        try:
            return list(text.encode())
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"the text is not valid Unicode: {error}") from error

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        return b"".join(self.token_bytes(i) for i in ids).decode(errors="replace")

    def token_str(self, token_id: int) -> str:
        return self.token_bytes(token_id).decode("latin-1")

    def token_bytes(self, token_id: int) -> bytes:
        return b"<eos>" if token_id == EOS else bytes([token_id])

    def apply_chat_template(
        self,
        messages: list[dict[str, Any]],
        *,
        tools: list[dict[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **template_kwargs: Any,
    ) -> str:
        turns = []
        for message in messages:
            content = message.get("content", "")
            if isinstance(content, list):
                kinds = {part["type"] for part in content} - {"text"}
                if kinds:
                    raise InvalidRequest(f"part of type {kinds}", param="messages")
                content = "\n".join(part.get("text", "") for part in content)
            turns.append(f"{message['role']}: {content}<|end|>\n")
        return "".join(turns) + ("assistant: " if add_generation_prompt else "")


class FakeProfiler:
    """Its trace is where it is told."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def start(self) -> None:
        pass

    async def stop(self) -> str:
        return self._path


class FakeEngine:
    """Ready at once; `running` holds the ids of requests that neither ended nor were aborted."""

    model_name = "fake"
    created = 1_700_000_000

    def __init__(self, *, max_model_len: int = 1000) -> None:
        self.tokenizer = ByteTokenizer()
        self.max_model_len = max_model_len
        self.is_ready = True
        self.kv_event_endpoints = KVEventEndpoints()
        self.health_state = Health(True)
        self.trace_path: str | None = None
        """None: profiles are switched off."""
        self.error: RequestError | Exception | None = None
        """Raised after `error_after` tokens."""
        self.error_after = 0
        self.stall_after: int | None = None
        """No more output after this many tokens, until the request is aborted."""
        self.running: set[str] = set()
        self.params: list[SamplingParams] = []
        self.prompts: list[list[int]] = []
        self.changed = asyncio.Event()
        """Set whenever a request starts, goes on or ends."""

    @property
    def profiler(self) -> FakeProfiler:
        if self.trace_path is None:
            raise NotFound("Start the server with --torch-profiler-dir.")
        return FakeProfiler(self.trace_path)

    def health(self) -> Health:
        return self.health_state

    def stats(self) -> EngineStats:
        return EngineStats(
            scheduler=SchedulerStats(
                num_running=len(self.running),
                prefix_cache_queries=10,
                prefix_cache_hits=4,
                external_prefix_cache_queries=6,
                external_prefix_cache_hits=2,
                host_cache_usage=0.25,
                reasons={"no_blocks": 3},
            ),
            num_steps=1,
            num_requests=len(self.running),
            num_core_restarts=0,
            num_blocks=100,
            block_size=16,
            max_model_len=self.max_model_len,
        )

    async def generate(
        self,
        prompt_token_ids: list[int],
        sampling_params: SamplingParams,
        *,
        request_id: str,
        priority: int = 0,
        cache_salt: str | None = None,
    ) -> AsyncGenerator[RequestOutput, None]:
        assert request_id not in self.running
        self.params.append(sampling_params)
        self.prompts.append(prompt_token_ids)
        self.running.add(request_id)
        self.changed.set()
        reply = (REPLY.encode() * (sampling_params.max_tokens // len(REPLY) + 1))[
            : sampling_params.max_tokens
        ]
        try:
            async for output in self._outputs(reply, prompt_token_ids, sampling_params):
                self.changed.set()
                yield output
        finally:
            self.running.remove(request_id)
            self.changed.set()

    async def _outputs(
        self, reply: bytes, prompt: list[int], params: SamplingParams
    ) -> AsyncGenerator[RequestOutput, None]:
        pending = b""
        for position, token_id in enumerate(reply):
            await asyncio.sleep(0)
            if self.error is not None and position == self.error_after:
                raise self.error
            if position == self.stall_after:
                await asyncio.Event().wait()
            pending += bytes([token_id])
            last = position == len(reply) - 1
            try:
                text, pending = pending.decode(), b""
            except UnicodeDecodeError:
                text = "\ufffd" if last else ""
            num_logprobs = params.logprobs
            first = position == 0
            yield RequestOutput(
                text=text,
                token_ids=[token_id],
                finish_reason="length" if last else None,
                logprobs=[] if num_logprobs is None else [_logprobs(token_id, num_logprobs)],
                prompt_logprobs=[_logprobs(i, params.prompt_logprobs) for i in prompt[1:]]
                if first and params.prompt_logprobs is not None
                else [],
                num_cached_tokens=2,
                queue_s=0.25 if first else None,
            )


def _logprobs(token_id: int, num_top: int) -> TokenLogprobs:
    top = [(token_id + i) % 256 for i in range(num_top)]
    return TokenLogprobs(
        token_ids=[token_id, *top], logprobs=[-0.5, *(-0.5 - i for i in range(num_top))], rank=1
    )
