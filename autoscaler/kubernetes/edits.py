"""Who else sets replicas: what we read against what we wrote. Pure.

A GitOps tool that applies a manifest with `replicas` in it undoes a scaling, silently: on newer API
servers most of all where we wrote 0, for a Scale leaves a zero out and so nobody owns the field.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import msgspec


class ManagedFields(msgspec.Struct, rename="camel"):
    """One manager's part of an object (metadata.managedFields)."""

    manager: str = ""
    time: str = ""
    fields_v1: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"{}"), name="fieldsV1")


class _Replicas(msgspec.Struct):
    replicas: dict[str, Any] | None = msgspec.field(default=None, name="f:replicas")


class _Owned(msgspec.Struct):
    spec: _Replicas = msgspec.field(default_factory=_Replicas, name="f:spec")


@dataclass(frozen=True, slots=True)
class Edit:
    """Somebody else set `spec.replicas`."""

    before: int
    after: int
    by: str = ""
    """Its name in managedFields; empty: nobody says."""

    def by_one_of(self, managers: Iterable[ManagedFields]) -> Edit:
        return replace(self, by=editor(managers))

    def __str__(self) -> str:
        who = repr(self.by) if self.by else "somebody else"
        return (
            f"{who} set replicas from {self.before} to {self.after}: leave replicas out of applied"
            " manifests"
        )


class Edits:
    """Of one target. It must see reads and writes in the order in which the API server did them."""

    def __init__(self, replicas: int) -> None:
        self._known = replicas
        self._maybe: set[int] = set()
        """Sent, and nobody knows whether it was taken."""

    def sending(self, replicas: int) -> None:
        self._maybe.add(replicas)

    def wrote(self, replicas: int) -> None:
        self._known = replicas
        self._maybe.clear()

    def saw(self, replicas: int) -> Edit | None:
        """An edit, told once, when the number is none of ours."""
        before, self._known = self._known, replicas
        is_ours = replicas == before or replicas in self._maybe
        self._maybe.clear()
        return None if is_ours else Edit(before, replicas)


def editor(managers: Iterable[ManagedFields]) -> str:
    """Who set `spec.replicas` last; empty: nobody owns it."""
    owners = []
    for each in managers:
        try:
            owned = msgspec.json.decode(each.fields_v1, type=_Owned)
        except msgspec.DecodeError:
            continue
        if owned.spec.replicas is not None:
            owners.append((each.time, each.manager))
    return max(owners, default=("", ""))[1]
