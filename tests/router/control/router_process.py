"""A whole router whose data-plane processes are stand-ins: `python router_process.py JSON`.

JSON: {"overrides": {...}, "file": ..., "takeover": bool, "watch": bool, "lingers": bool}. Prints
what it serves as one JSON line, then ends as a router does. With `lingers` something runs beside it
that says so when it is to end, and then does not end of itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from shoal.errors import ShoalError
from shoal.log import configure_logging
from shoal.router.control import run
from shoal.router.control.load import Source

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.router.control.conftest import FAKE_PROXY, FAST


async def linger() -> str:
    try:
        return await asyncio.Future()
    finally:
        print("ending", flush=True)
        await asyncio.Future()


def main() -> None:
    options: dict[str, Any] = json.loads(sys.argv[1])
    configure_logging("json")
    file = options.get("file")
    source = Source(file=Path(file) if file else None, overrides=options.get("overrides", {}))
    try:
        prepared = run.prepare(source, takeover=options.get("takeover", False))
        run.serve(
            prepared,
            command=FAKE_PROXY,
            timing=FAST,
            alongside=linger if options.get("lingers") else None,
            watches=options.get("watch", False),
            on_ready=lambda serving: print(json.dumps(serving._asdict()), flush=True),
        )
    except ShoalError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
