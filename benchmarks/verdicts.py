"""What a reader must know before believing a result: pure, one rule a function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shoal.benchmarks.measure.record import RequestRecord
from shoal.benchmarks.measure.summary import CANCELLED, Figures
from shoal.benchmarks.result import ClientLoad
from shoal.benchmarks.settings import LoadTest

BUSY_CORES = 0.8
"""A process above this share of a core stamps tokens late."""
LEAST_WATCHED_S = 0.5
"""In a shorter run a process does little else than begin and end: its CPU share says nothing."""
LATE_S = 0.01
TEMPLATE_TOKENS = 40
"""What a chat template may add to a prompt before it is worth a word."""
KNOWN_SHARE = 0.1
"""Of prompts that share nothing: more in the prefix cache were there before the run."""


def warnings_about(
    test: LoadTest, records: Sequence[RequestRecord], figures: Figures, client: ClientLoad
) -> list[str]:
    """Sentences for the reader, empty when all is well."""
    good = [record for record in records if record.error is None]
    return [
        *_busy_client(client, records),
        *_late_client(figures),
        *_unfinished(records),
        *_other_lengths(test, good),
        *_other_prompts(good),
        *_known_prompts(test, figures),
    ]


def _busy_client(client: ClientLoad, records: Sequence[RequestRecord]) -> Iterator[str]:
    busiest = max(client.cpu_cores, default=0.0)
    last_s = max((record.end_s for record in records if record.end_s is not None), default=0.0)
    if busiest > BUSY_CORES and last_s > LEAST_WATCHED_S:
        yield (
            f"the load generator used {busiest:.0%} of a core in a process: latencies are partly"
            f" its own; give it more with --processes {2 * client.processes}"
        )


def _late_client(figures: Figures) -> Iterator[str]:
    late_s = figures.send_delay_s.p99
    if late_s is not None and late_s > LATE_S:
        yield (
            f"1 % of the requests left {late_s * 1e3:.0f} ms late or later: the client is the limit"
            " (the delay is part of every latency)"
        )


def _unfinished(records: Sequence[RequestRecord]) -> Iterator[str]:
    count = sum(record.error == CANCELLED for record in records)
    if count:
        yield f"{count} requests were under way when the run was interrupted: no figure has them"


def _other_lengths(test: LoadTest, good: Sequence[RequestRecord]) -> Iterator[str]:
    counted = [r for r in good if r.output_tokens is not None and r.planned_output_tokens]
    short = sum(r.output_tokens != r.planned_output_tokens for r in counted)
    if short and test.form.ignore_eos:
        yield (
            f"{short} of {len(counted)} answers have another length than asked for:"
            " compare tokens per second with care"
        )
    uncounted = sum(record.output_tokens is None for record in good)
    if uncounted:
        yield (
            f"{uncounted} answers came without a token count (usage): their chunks were counted"
            " instead"
        )


def _other_prompts(good: Sequence[RequestRecord]) -> Iterator[str]:
    planned = [
        (record.planned_prompt_tokens, record.prompt_tokens)
        for record in good
        if record.planned_prompt_tokens and record.prompt_tokens
    ]
    expected = sum(plan for plan, _ in planned)
    counted = sum(count for _, count in planned)
    if abs(counted - expected) > 0.02 * expected + TEMPLATE_TOKENS * len(planned):
        yield (
            f"prompts hold {counted / expected:.2f} times the planned tokens by the server's count:"
            " its tokenizer could not be asked, or its chat template adds much"
        )


def _known_prompts(test: LoadTest, figures: Figures) -> Iterator[str]:
    shares_nothing = test.workload.kind == "synthetic" and test.workload.prefix_len is None
    cached = figures.cached_tokens or 0
    if shares_nothing and cached > KNOWN_SHARE * figures.prompt_tokens:
        yield (
            f"{cached / figures.prompt_tokens:.0%} of the prompt tokens were in the server's prefix"
            " cache although the prompts share nothing: a run with the same seed came before; for"
            f" other prompts give --seed {test.workload.seed + 1000}"
        )
