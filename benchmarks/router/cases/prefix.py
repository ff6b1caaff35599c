"""40 conversations that share a system prompt and name no session: who finds their cache again?"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from ..contestants import Contestant
from ..loads.conversations import Conversations, ConversationsOutcome, converse
from ..oracle import fake_bound, mock_bound
from ..programs import BenchFailed
from ..running_router import RunningRouter, running
from ..stage import Figures, Stage, drive
from ..workers import MODEL, CacheCounts, Costs, fake_workers, mock_workers

PREFILL_TOKENS_PER_S = 16_000
MOCK_COSTS = Costs(
    ttft_s=0.01, itl_s=0.002, prefill_tokens_per_s=PREFILL_TOKENS_PER_S, cache_blocks=900
)
"""Ten of the forty conversations need 816 blocks of 64 characters, the system prompt included."""
FAKE_COSTS = Costs(
    ttft_s=0.01, itl_s=0.002, prefill_tokens_per_s=PREFILL_TOKENS_PER_S, cache_blocks=574
)
"""Ten conversations need 519 blocks of 16 tokens; the cache has a tenth more, as above."""


def measure(stage: Stage, contestant: Contestant) -> Figures:
    """Mock workers: the router sees nothing but prompts and metrics."""
    workload = workload_of(stage)
    with (
        mock_workers(stage.programs.mock_worker, MOCK_COSTS, stage.folder) as workers,
        running(contestant, workers, stage.folder, cache_aware=True) as router,
    ):
        outcome, counts = run(router, workload)
    return figures_of(outcome, counts, bound=mock_bound(outcome.prompts))


def measure_exact(stage: Stage, contestant: Contestant) -> Figures:
    """Fake workers that publish KV events: the router can know what each has cached."""
    workload = workload_of(stage)
    with (
        fake_workers(FAKE_COSTS, stage.folder) as workers,
        running(contestant, workers, stage.folder, cache_aware=True) as router,
    ):
        outcome, counts = run(router, workload)
    bound = fake_bound(outcome.prompts, answer_tokens=workload.answer_tokens)
    return figures_of(outcome, counts, bound=bound)


def workload_of(stage: Stage) -> Conversations:
    return Conversations(num_turns=stage.sized(8, 4))


def run(
    router: RunningRouter, workload: Conversations
) -> tuple[ConversationsOutcome, list[CacheCounts]]:
    """The load, and what each worker did meanwhile."""
    before = [worker.counts() for worker in router.workers]
    load = converse(router.ports, workload, model=MODEL, headers=router.headers)
    outcome = drive(load, bound_s=90)
    after = [worker.counts() for worker in router.workers]
    return outcome, [now.since(then) for now, then in zip(after, before, strict=True)]


def figures_of(
    outcome: ConversationsOutcome, counts: Sequence[CacheCounts], *, bound: float
) -> Figures:
    num_requests = sum(count.num_requests for count in counts)
    num_queried = sum(count.num_queried_tokens for count in counts)
    if not outcome.ttfts_s or not num_requests or not num_queried:
        raise BenchFailed(f"no answer; {outcome.num_failed} requests failed")
    hit_rate = sum(count.num_hit_tokens for count in counts) / num_queried
    shares = sorted((count.num_requests / num_requests for count in counts), reverse=True)
    return {
        "hit_rate": hit_rate,
        "bound": bound,
        "ratio_to_bound": hit_rate / bound,
        "max_share": shares[0],
        "min_share": shares[-1],
        "ttft_mean_ms": fmean(outcome.ttfts_s) * 1e3,
        "failed": float(outcome.num_failed),
    }
