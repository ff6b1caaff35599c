"""From the model name a client sends to the name a worker serves: aliases, splits, fallbacks.

Pure and immutable: a reload builds a new table. A split is a division of [0, 1) into ranges in
the order of its arms; a client's point in it is a hash of its session or key, so it stays on its
arm, and moving the border from 10 to 20 % moves only the clients between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Literal, NamedTuple

CanServe = Callable[[str, Mapping[str, str]], bool]
"""(model, selector) -> is there an endpoint for it that can take requests."""


class Arm(NamedTuple):
    """One arm of a split."""

    weight: float
    model: str | None = None
    """The name workers serve; None: the entry's own."""
    selector: Mapping[str, str] = {}


class ModelEntry(NamedTuple):
    """What is special about a model. See `ModelConfig` in router/settings/routing.py."""

    name: str
    aliases: tuple[str, ...] = ()
    split: tuple[Arm, ...] = ()
    sticky_by: Literal["session", "key", "none"] = "session"
    fallback: tuple[str, ...] = ()
    policy: str | None = None


class Route(NamedTuple):
    """Where a request for a model goes."""

    model: str
    """The name workers serve."""
    selector: Mapping[str, str] = {}
    """Labels its endpoints must have."""
    rewritten: bool = False
    """`model` is not what the client sent: the body must be changed."""
    entry: str = ""
    """The configured model it was resolved to; `model` itself when there is no entry."""
    policy: str | None = None
    is_fallback: bool = False
    is_served: bool = True
    """False: nobody in the whole chain can serve now; hold the request, or refuse it."""


class ModelTable:
    """All models of a configuration. Raises ValueError, in words, when they contradict."""

    def __init__(self, entries: Iterable[ModelEntry]) -> None:
        self._entries: dict[str, ModelEntry] = {}
        for entry in entries:
            if entry.name in self._entries:
                raise ValueError(f"models: {entry.name!r} is configured twice")
            _check_split(entry)
            self._entries[entry.name] = entry
        self._names = {name: name for name in self._entries}
        for entry in self._entries.values():
            for alias in entry.aliases:
                owner = self._names.setdefault(alias, entry.name)
                if alias in self._entries:
                    raise ValueError(
                        f"models: alias {alias!r} of {entry.name!r} is the name of a model"
                    )
                if owner != entry.name:
                    raise ValueError(
                        f"models: {alias!r} is an alias of both {owner!r} and {entry.name!r}"
                    )
        self._chains = {name: self._chain(name, ()) for name in self._entries}

    def resolve(
        self,
        name: str,
        *,
        session_id: str | None,
        key_id: str | None,
        draw: float,
        can_serve: CanServe,
    ) -> Route | None:
        """Where a request for `name` goes; None: no such model (404).

        `draw` in [0, 1) chooses the arm for a client that nothing keeps on one. An arm that
        nobody serves is left out as if its weight were 0, then the fallbacks are tried in order.
        A configured model that nobody serves is still a route, with `is_served` false: it may be
        scaled to zero.
        """
        known = self._names.get(name)
        if known is None:
            return Route(name, entry=name) if can_serve(name, {}) else None
        for candidate in self._chains[known]:
            entry = self._entries.get(candidate)
            if entry is None:
                arm: Arm | None = Arm(1.0, candidate) if can_serve(candidate, {}) else None
            else:
                arm = _pick(entry, _point(entry, session_id, key_id, draw), can_serve)
            if arm is not None:
                return self._route(name, candidate, arm, is_fallback=candidate != known)
        entry = self._entries[known]
        first = _pick(entry, _point(entry, session_id, key_id, draw), _anyone)
        assert first is not None
        return self._route(name, known, first, is_fallback=False)._replace(is_served=False)

    def __contains__(self, name: str) -> bool:
        """Whether it is a configured name or alias."""
        return name in self._names

    def names(self) -> list[str]:
        """Every configured name and alias, for /v1/models."""
        return list(self._names)

    def _route(self, asked: str, found: str, arm: Arm, *, is_fallback: bool) -> Route:
        model = found if arm.model is None else arm.model
        entry = self._entries.get(found)
        policy = None if entry is None else entry.policy
        return Route(model, arm.selector, model != asked, found, policy, is_fallback)

    def _chain(self, name: str, path: tuple[str, ...]) -> tuple[str, ...]:
        """`name`, then its fallbacks, each with its own behind it, none twice."""
        if name in path:
            loop = " -> ".join([*path[path.index(name) :], name])
            raise ValueError(f"models: fallbacks go in a circle: {loop}")
        entry = self._entries.get(name)
        if entry is None:
            return (name,)
        chain: dict[str, None] = {name: None}
        for fallback in entry.fallback:
            target = self._names.get(fallback, fallback)
            chain.update(dict.fromkeys(self._chain(target, (*path, name))))
        return tuple(chain)


def _check_split(entry: ModelEntry) -> None:
    if any(arm.weight < 0 for arm in entry.split):
        raise ValueError(f"models: {entry.name!r} has a split arm with a negative weight")
    if entry.split and not any(arm.weight > 0 for arm in entry.split):
        raise ValueError(f"models: every arm of the split of {entry.name!r} has weight 0")


def _point(entry: ModelEntry, session_id: str | None, key_id: str | None, draw: float) -> float:
    """Where in [0, 1) this client stands; the same wherever and whenever it is asked."""
    sticky = {"session": session_id, "key": key_id, "none": None}[entry.sticky_by]
    if not entry.split or sticky is None:
        return draw
    # The name makes splits independent: or those in 10 % here would be the 10 % everywhere.
    digest = blake2b(f"{entry.name}\0{sticky}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2.0**48


def _pick(entry: ModelEntry, point: float, can_serve: CanServe) -> Arm | None:
    """The arm whose range holds `point`, of those that somebody serves; None: there is none."""
    arms = entry.split or (Arm(1.0),)
    served = [
        arm for arm in arms if arm.weight > 0 and can_serve(arm.model or entry.name, arm.selector)
    ]
    if not served:
        return None
    # Over the whole split first: who is on an arm that is served stays there while others are not.
    for choice in (arms, served):
        mark = point * sum(arm.weight for arm in choice)
        for arm in choice:
            mark -= arm.weight
            if mark < 0:
                break
        if arm in served:
            return arm
        # On an arm that is out: its clients are spread over the others by the same point.
    return served[-1]


def _anyone(model: str, selector: Mapping[str, str]) -> bool:
    return True
