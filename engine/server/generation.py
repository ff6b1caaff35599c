"""Runs the sequences behind one answer: one request of the engine per choice."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from shoal.errors import RequestError
from shoal.openai.fields import GenerationFields
from shoal.openai.usage import PromptTokensDetails, Usage

from ..core.sampling_params import SamplingParams
from ..output import RequestOutput
from .interface import Engine
from .metrics import RequestMetrics, RequestObserver
from .prompts import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One sequence to generate: choice `index` of the answer."""

    index: int
    request_id: str
    prompt: Prompt
    params: SamplingParams
    priority: int
    cache_salt: str | None


def choices_of(
    prompt: Prompt,
    params: SamplingParams,
    *,
    body: GenerationFields,
    answer_id: str,
    first_index: int,
    num_choices: int,
) -> list[Generation]:
    """The choices of one prompt. With a seed each has its own, or all would be equal."""
    return [
        Generation(
            index=first_index + choice,
            request_id=f"{answer_id}-{first_index + choice}",
            prompt=prompt,
            params=dataclasses.replace(params, seed=params.seed + choice)
            if choice and params.seed is not None
            else params,
            priority=body.priority or 0,
            cache_salt=body.cache_salt,
        )
        for choice in range(num_choices)
    ]


class TokenCounts:
    """Counts the tokens of an answer as its outputs come."""

    def __init__(self, generations: Sequence[Generation], *, choices_per_prompt: int) -> None:
        prompts = generations[::choices_per_prompt]
        self.prompt_tokens = sum(len(generation.prompt.token_ids) for generation in prompts)
        self.completion_tokens = 0
        self.cached_tokens = 0
        # Later choices of a prompt find what the first one computed: only the first one counts.
        self._not_started = {generation.index for generation in prompts}

    def add(self, index: int, output: RequestOutput) -> None:
        """Count one output of choice `index`."""
        self.completion_tokens += len(output.token_ids)
        if index in self._not_started:
            self._not_started.remove(index)
            self.cached_tokens += output.num_cached_tokens

    def usage(self) -> Usage:
        """As the API reports it."""
        return Usage(
            self.prompt_tokens,
            self.completion_tokens,
            self.prompt_tokens + self.completion_tokens,
            PromptTokensDetails(self.cached_tokens),
        )

    def log_fields(self) -> dict[str, int]:
        """As the access log reports it."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cached_tokens": self.cached_tokens,
        }


def run_generations(
    engine: Engine,
    generations: Sequence[Generation],
    *,
    metrics: RequestMetrics,
    counts: TokenCounts,
) -> AsyncGenerator[tuple[int, RequestOutput], None]:
    """The outputs of all sequences as they come, with the index of their choice.

    The first error ends them all. Closing it aborts what still runs.
    """
    arrival_time = time.monotonic()
    runs = [
        _run(engine, generation, metrics=metrics, counts=counts, arrival_time=arrival_time)
        for generation in generations
    ]
    return runs[0] if len(runs) == 1 else _merge(runs)


async def _run(
    engine: Engine,
    generation: Generation,
    *,
    metrics: RequestMetrics,
    counts: TokenCounts,
    arrival_time: float,
) -> AsyncGenerator[tuple[int, RequestOutput], None]:
    """The outputs of one sequence, measured and counted on their way."""
    observer = RequestObserver(
        metrics,
        num_prompt_tokens=len(generation.prompt.token_ids),
        max_tokens=generation.params.max_tokens,
        arrival_time=arrival_time,
    )
    outputs = engine.generate(
        generation.prompt.token_ids,
        generation.params,
        request_id=generation.request_id,
        priority=generation.priority,
        cache_salt=generation.cache_salt,
    )
    index = generation.index
    async with aclosing(outputs):
        try:
            async for output in outputs:
                observer.output(output)
                counts.add(index, output)
                yield index, output
        except RequestError:
            observer.failed()
            raise
        finally:
            observer.end()


async def _merge(
    runs: Sequence[AsyncGenerator[tuple[int, RequestOutput], None]],
) -> AsyncGenerator[tuple[int, RequestOutput], None]:
    # One place per run: a slow client slows the pumps, and the engine joins what waits.
    queue: asyncio.Queue[tuple[int, RequestOutput] | Exception | None] = asyncio.Queue(len(runs))

    async def pump(run: AsyncGenerator[tuple[int, RequestOutput], None]) -> None:
        try:
            async with aclosing(run):
                async for item in run:
                    await queue.put(item)
        except Exception as error:
            await queue.put(error)
        else:
            await queue.put(None)

    pumps = [asyncio.create_task(pump(run)) for run in runs]
    num_running = len(pumps)
    try:
        while num_running:
            item = await queue.get()
            if item is None:
                num_running -= 1
            elif isinstance(item, Exception):
                raise item
            else:
                yield item
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


def join_outputs(outputs: Sequence[RequestOutput]) -> RequestOutput:
    """All deltas of one sequence as one output, in linear time."""
    last = outputs[-1]
    return RequestOutput(
        text="".join([output.text for output in outputs]),
        token_ids=[token_id for output in outputs for token_id in output.token_ids],
        finish_reason=last.finish_reason,
        stop_reason=last.stop_reason,
        logprobs=[entry for output in outputs for entry in output.logprobs],
        prompt_logprobs=[entry for output in outputs for entry in output.prompt_logprobs],
        num_cached_tokens=last.num_cached_tokens,
        queue_s=outputs[0].queue_s,
    )
