"""What an autoscaler says, as the console passes it on.

An autoscaler's admin API (docs/autoscaling.md) is read over HTTP: that of another process, or the
routes that `shoal up` has added to this very app, which are then called without a socket. Bodies
are not looked into, but for the objective and the prices that they name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import httpx
import msgspec
from starlette.types import ASGIApp

TIMEOUT_S = 1.5
MAX_BODY_BYTES = 4 * 1024 * 1024
NUM_DECISIONS = 500
"""Asked for; those that change nothing are joined."""
MAX_RUNS = 30
FRESH_S = 2.0
"""So long one answer serves all who look."""
RETRY_S = 5.0
"""After a failure it is not asked again for so long."""


class ScalingUnknown(Exception):
    """It cannot be had at the moment; the message is for people."""


class ScalingView(msgspec.Struct, kw_only=True):
    """All of it, or why not."""

    models: list[dict[str, Any]] = []
    decisions: list[dict[str, Any]] = []
    """The newest first. A run of decisions that changed nothing, for the same reasons, is one: the
    newest, with `since`, the time of the oldest."""
    history: list[dict[str, Any]] = []
    """Of one model, the oldest first."""
    history_of: str = ""
    error: str = ""

    def ttft_target_s(self, model: str) -> float | None:
        """The objective that a model's policy names."""
        for found in self.models:
            slo = found.get("slo")
            if found.get("model") == model and isinstance(slo, dict):
                target = slo.get("ttft_s")
                return float(target) if isinstance(target, int | float) and target > 0 else None
        return None

    def cost_per_hour(self, model: str) -> float:
        """Of the replicas of a model, or of all (""), as the policies price them."""
        return sum(
            _number(variant, "cost_per_hour")
            * sum(_number(variant, name) for name in ("ready", "pending", "draining"))
            for found in self.models
            if model in ("", found.get("model"))
            for variant in _list(found, "variants")
        )


class Scaling:
    """One autoscaler's admin API."""

    def __init__(
        self,
        url: str,
        client: httpx.AsyncClient,
        *,
        clock: Callable[[], float],
        key: str | None = None,
        name: str = "",
    ) -> None:
        """`key`: of its admin API. `name`: how to speak of it to people."""
        self._url = url.rstrip("/")
        self._client = client
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._clock = clock
        self._name = name or f"The autoscaler at {self._url}"
        self._lock = asyncio.Lock()
        self._known = ScalingView()
        self._known_at = float("-inf")

    async def view(self, model: str, since: float) -> ScalingView:
        """As of a second ago at most; the history is of `model`, or of the first one it scales.

        Never raises for an autoscaler in trouble: `error` says what is the matter.
        """
        async with self._lock:
            fresh_s = RETRY_S if self._known.error else FRESH_S
            if self._clock() - self._known_at >= fresh_s:
                self._known = await self._current()
                self._known_at = self._clock()
        known = self._known
        names = [str(found.get("model", "")) for found in known.models]
        shown = model if model in names else names[0] if names else ""
        if not shown:
            return known
        try:
            body = await self._get("/autoscaler/history", {"model": shown, "since": f"{since:.3f}"})
        except ScalingUnknown as error:
            return msgspec.structs.replace(known, error=str(error))
        return msgspec.structs.replace(known, history=_list(body, "points"), history_of=shown)

    async def _current(self) -> ScalingView:
        try:
            models, decisions = await asyncio.gather(
                self._get("/autoscaler/models", {}),
                self._get("/autoscaler/decisions", {"limit": str(NUM_DECISIONS)}),
            )
        except ScalingUnknown as error:
            return ScalingView(error=str(error))
        return ScalingView(
            models=_list(models, "models"), decisions=runs(_list(decisions, "decisions"))[:MAX_RUNS]
        )

    async def _get(self, path: str, query: Mapping[str, str]) -> Any:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await self._client.get(
                    self._url + path, params=query, headers=self._headers
                )
        except (httpx.HTTPError, TimeoutError) as error:
            kind = type(error).__name__
            raise ScalingUnknown(f"{self._name} does not answer ({kind}).") from error
        if answer.status_code != httpx.codes.OK or len(answer.content) > MAX_BODY_BYTES:
            raise ScalingUnknown(f"{self._name} answered {path} with {answer.status_code}.")
        try:
            return msgspec.json.decode(answer.content)
        except msgspec.DecodeError as error:
            raise ScalingUnknown(f"{self._name} answered {path} with no JSON.") from error


def scaling_of(app: ASGIApp, *, clock: Callable[[], float]) -> Scaling:
    """That of an app in this process which has the autoscaler's routes."""
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False))
    return Scaling("http://autoscaler", client, clock=clock, name="The autoscaler")


def runs(decisions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Joins what says the same again and again, model by model; the newest first, as they came."""
    found: list[dict[str, Any]] = []
    latest: dict[Any, dict[str, Any]] = {}
    for decision in decisions:
        model, time = decision.get("model"), decision.get("time")
        run = latest.get(model)
        if run is not None and _is_quiet(run) and _is_quiet(decision) and _same(run, decision):
            run["since"] = time
        else:
            run = latest[model] = {**decision, "since": time}
            found.append(run)
    return found


def _is_quiet(decision: Mapping[str, Any]) -> bool:
    return bool(decision.get("before") == decision.get("desired"))


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(name) == other.get(name) for name in ("desired", "valid")) and (
        [reason.get("kind") for reason in _list(one, "reasons")]
        == [reason.get("kind") for reason in _list(other, "reasons")]
    )


def _number(body: Mapping[str, Any], name: str) -> float:
    found = body.get(name)
    return float(found) if isinstance(found, int | float) else 0.0


def _list(body: Any, name: str) -> list[dict[str, Any]]:
    found = body.get(name) if isinstance(body, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
