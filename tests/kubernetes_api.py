"""What doubles of a Kubernetes API server share: being served, and a kubeconfig for them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from aiohttp import web

NAMESPACE = "llm"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def served(handler: Handler, *, method: str = "*", path: str) -> AsyncIterator[str]:
    """Its address, on the loopback."""
    app = web.Application()
    app.router.add_route(method, path, handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def kubeconfig(url: str, folder: Path) -> str:
    """The path of a file that names the server."""
    path = folder / "kubeconfig"
    context = {"cluster": "k", "user": "u", "namespace": NAMESPACE}
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": context}],
                "clusters": [{"name": "k", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {"token": "secret"}}],
            }
        )
    )
    return str(path)
