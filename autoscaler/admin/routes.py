"""The autoscaler's routes, for an admin app of its own or for the router's (`shoal up`)."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query
from starlette.responses import Response

from shoal.admin.app import json_response
from shoal.errors import NotFound

from ..record.memory import Memory
from .view import HistoryView, decisions_view, models_view


def add_routes(app: FastAPI, memory: Memory) -> None:
    """Of what the models' recorders remember."""

    @app.get("/autoscaler/models")
    async def models() -> Response:
        """Each model: its policy, its replicas, its demand, and the last decision."""
        return json_response(models_view(memory))

    @app.get("/autoscaler/history")
    async def history(model: str, since: float = 0.0) -> Response:
        """One model over time, the oldest first; `since` in Unix seconds."""
        found = memory.of_model(model)
        if found is None:
            raise NotFound(f"No policy scales a model {model!r}.", param="model")
        return json_response(HistoryView(list(found.history.since(since))))

    @app.get("/autoscaler/decisions")
    async def decisions(limit: Annotated[int, Query(ge=1, le=10_000)] = 100) -> Response:
        """The newest decisions first, with reasons and numbers."""
        return json_response(decisions_view(memory, limit))
