"""Metrics as plain data: what a data-plane process reports, and how reports add up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shoal import metrics as names

from ..core.types import EndpointStatus
from ..messages import EndpointRecord

Value = float | list[float]
"""A number; of a histogram the counts of its buckets (not cumulative, the last one unbounded), then
the sum of what was observed."""
Snapshot = dict[str, dict[tuple[str, ...], Value]]
"""By name of the family, then by label values in the family's order."""


def to_plain(snapshot: Snapshot) -> dict[str, list[list[Any]]]:
    """For a `Report`: msgpack keys are strings."""
    return {
        name: [[list(labels), value] for labels, value in children.items()]
        for name, children in snapshot.items()
    }


def from_plain(body: Mapping[str, Any]) -> Snapshot:
    """What `to_plain` made, after its journey."""
    return {
        name: {tuple(labels): value for labels, value in children}
        for name, children in body.items()
    }


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Adds up what several processes counted; gauges too, for each counts its own share."""
    merged: Snapshot = {}
    for snapshot in snapshots:
        for name, children in snapshot.items():
            into = merged.setdefault(name, {})
            for labels, value in children.items():
                known = into.get(labels)
                if isinstance(value, list):
                    if known is None:
                        into[labels] = list(value)
                    elif isinstance(known, list) and len(known) == len(value):
                        into[labels] = [a + b for a, b in zip(known, value, strict=True)]
                elif known is None:
                    into[labels] = value
                elif not isinstance(known, list):
                    into[labels] = known + value
    return merged


def endpoint_statuses(records: Iterable[EndpointRecord]) -> Snapshot:
    """The state process's own part: every endpoint with a 1 at its status and 0 at the others."""
    return {
        names.ROUTER_ENDPOINT_STATUS: {
            (record.endpoint_id, status.value): float(record.status == status.value)
            for record in records
            for status in EndpointStatus
        }
    }
