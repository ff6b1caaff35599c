"""One endpoint, told to people: what a record leaves out."""

from __future__ import annotations

import msgspec

from .monitor import Monitor


class KVEventsDetail(msgspec.Struct, kw_only=True):
    """How following its KV events goes; all numbers since the subscription."""

    address: str
    replay_address: str | None
    num_blocks: int
    """Known to be cached there now."""
    num_batches: int
    num_gaps: int
    num_unfilled_gaps: int
    """After each the cache counted as unknown."""
    num_restarts: int
    num_undecodable: int
    num_malformed: int
    num_missing_parents: int
    num_forgotten: int


class EndpointDetail(msgspec.Struct, kw_only=True):
    """Where it comes from and why it is as it is."""

    endpoint_id: str
    url: str
    source: str
    status: str
    health: str
    """By probes alone."""
    last_error: str | None
    num_failures: int
    """Probes that failed in a row."""
    is_drained: bool
    """By an operator."""
    is_terminating: bool
    """By discovery."""
    is_leaving: bool
    """Gone from discovery, or removed; ends when it is idle."""
    instance: str
    engine: str
    kv_events: KVEventsDetail | None


def detail(monitor: Monitor) -> EndpointDetail:
    """As it is now."""
    member, health = monitor.member, monitor.health
    return EndpointDetail(
        endpoint_id=member.endpoint_id,
        url=member.endpoint.url,
        source=member.source,
        status=monitor.status.value,
        health=health.status.value,
        last_error=health.last_error,
        num_failures=health.num_failures,
        is_drained=member.is_drained,
        is_terminating=member.is_terminating,
        is_leaving=member.leaving_since is not None,
        instance=monitor.instance,
        engine=monitor.engine.value,
        kv_events=_kv_events(monitor),
    )


def _kv_events(monitor: Monitor) -> KVEventsDetail | None:
    subscriber = monitor.kv
    if subscriber is None:
        return None
    feed, blocks = subscriber.feed, subscriber.feed.blocks
    return KVEventsDetail(
        address=subscriber.address,
        replay_address=subscriber.replay_address,
        num_blocks=len(blocks),
        num_batches=feed.num_batches,
        num_gaps=feed.num_gaps,
        num_unfilled_gaps=feed.num_unfilled,
        num_restarts=feed.num_restarts,
        num_undecodable=feed.num_undecodable,
        num_malformed=blocks.num_malformed,
        num_missing_parents=blocks.num_missing_parents,
        num_forgotten=blocks.num_forgotten,
    )
