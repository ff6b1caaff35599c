"""What is known of a model and its variants at one time. None: not known, which is not 0."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantObservation:
    """Replicas of one variant. A replica of a LeaderWorkerSet is a whole group of pods."""

    name: str
    desired: int
    """What the target's `spec.replicas` says: not what we asked for, if somebody else edits it."""
    ready: int
    pending: int = 0
    """On their way: created, and neither ready nor draining."""
    unschedulable: int = 0
    """Of `pending`: those that the cluster says it has no place for."""
    draining: int = 0
    num_running: float | None = None
    """Requests in the batches of all ready replicas together, mean of the interval."""
    num_waiting: float | None = None
    """Requests that wait inside the replicas, at the end of the interval."""
    kv_usage: float | None = None
    """Of the fullest replica, in [0, 1]."""
    input_tokens_per_s: float | None = None
    """Prompt tokens computed by all ready replicas together: those found in a cache left out."""
    output_tokens_per_s: float | None = None
    tpot_s: float | None = None
    """Mean time per output token of the interval."""
    num_first_tokens: int | None = None
    """Requests whose first token came in the interval, and for how many of them in time. First
    tokens and not ends: what a request suffers is seen while it suffers."""
    num_in_time: int | None = None
    num_finished: int | None = None
    """Requests that ended in the interval, and for how many of them the mean time per output token
    was within the objective."""
    num_tpot_in_time: int | None = None
    start_up_s: tuple[float, ...] = ()
    """How long each replica took that became ready in the interval, from its creation on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One model over the last `interval_s` seconds."""

    interval_s: float
    arrivals: int | None
    """Requests that came in the interval, those included that were held or refused."""
    input_tokens: int | None = None
    """Of these requests, prompts that no cache held: what a replica must compute."""
    output_tokens: int | None = None
    """Tokens put out in the interval."""
    queued: int | None = None
    """Requests in the router's queue for want of room."""
    held: int | None = None
    """Requests at the router for a model without a replica."""
    variants: tuple[VariantObservation, ...] = ()

    @property
    def backlog(self) -> int:
        """Requests that wait at the router."""
        return (self.queued or 0) + (self.held or 0)

    @property
    def is_asked(self) -> bool:
        """Whether requests came, wait, or still run: one that takes long is no idleness."""
        return bool(
            self.arrivals
            or self.backlog
            or any(seen.num_running or seen.num_waiting for seen in self.variants)
        )
