"""What every route works with."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from starlette.responses import Response

from shoal.errors import EngineUnavailable, NotFound

from .interface import Engine
from .metrics import ServerMetrics
from .settings import ServerSettings
from .text_threads import TextThreads

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerContext:
    """The engine behind the server, and what serves it."""

    engine: Engine
    settings: ServerSettings
    metrics: ServerMetrics
    text_threads: TextThreads = field(default_factory=TextThreads)

    def require_ready(self) -> None:
        """Raises EngineUnavailable with the reason when no request can be served now."""
        if self.engine.is_ready:
            return
        reason = self.engine.health().reason or "the model is still being loaded"
        raise EngineUnavailable(f"The engine is not ready: {reason}.", retry_after_s=1.0)

    def require_model(self, name: str | None) -> None:
        """Raises NotFound unless `name` is the served model; None stands for it."""
        self.require_ready()
        served = self.engine.model_name
        if name is not None and name != served:
            raise NotFound(
                f"The model {name!r} does not exist here; this server has {served!r}.",
                param="model",
                code="model_not_found",
            )


def json_response(body: msgspec.Struct) -> Response:
    """A struct as an HTTP answer."""
    return Response(_encode(body), media_type="application/json")
