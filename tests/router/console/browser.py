"""Headless Chromium, driven over its DevTools protocol through a pair of pipes.

No library and no port: `--remote-debugging-pipe` reads commands at descriptor 3 and writes at 4,
one JSON message each, ended by a zero byte. https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_COMMAND_S = 60.0
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
    "--no-first-run", "--disable-extensions", "--disable-background-networking",
    "--disable-component-update", "--disable-dev-shm-usage", "--no-proxy-server",
)  # fmt: skip


class Browser:
    """One process."""

    def __init__(self, commands: asyncio.StreamWriter, events: asyncio.StreamReader) -> None:
        self._commands = commands
        self._events = events
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.pages: dict[str, Page] = {}

    async def listen(self) -> None:
        while True:
            message = json.loads((await self._events.readuntil(b"\0"))[:-1])
            if (waiting := self._waiting.pop(message.get("id", 0), None)) is not None:
                if not waiting.done():
                    waiting.set_result(message)
            elif (page := self.pages.get(message.get("sessionId", ""))) is not None:
                page.on_event(message["method"], message["params"])

    async def call(self, method: str, session: str | None = None, **params: Any) -> Any:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._commands.write(json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(_COMMAND_S):
            found = await answer
        assert "error" not in found, (method, found["error"])
        return found["result"]

    async def open(self, url: str, *, width: int, height: int, dark: bool = False) -> Page:
        """A page of that size and colour scheme, once it has loaded."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        page = Page(self, attached["sessionId"], width, height)
        self.pages[attached["sessionId"]] = page
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.call(f"{domain}.enable")
        await page.resize(width, height)
        await page.call(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ],
        )
        await page.call("Page.navigate", url=url)
        async with asyncio.timeout(_COMMAND_S):
            await page.loaded.wait()
        return page


class Page:
    """One tab; remembers all that went wrong in it."""

    def __init__(self, browser: Browser, session: str, width: int, height: int) -> None:
        self._browser = browser
        self._session = session
        self.width, self.height = width, height
        self.loaded = asyncio.Event()
        self.troubles: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []

    def on_event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self.loaded.set()
        elif method == "Runtime.exceptionThrown":
            self.troubles.append(json.dumps(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.troubles.append(json.dumps(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.troubles.append(json.dumps(params["entry"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(params["message"])
            self._task = asyncio.create_task(self.call("Page.handleJavaScriptDialog", accept=True))

    async def resize(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip

    async def call(self, method: str, **params: Any) -> Any:
        return await self._browser.call(method, self._session, **params)

    async def run(self, script: str) -> Any:
        """The value of a JavaScript expression; promises are waited for."""
        found = await self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, (script, found["exceptionDetails"])
        return found["result"].get("value")

    async def until(self, script: str, timeout_s: float = 60.0) -> Any:
        """The value of an expression once it is truthy."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (value := await self.run(script)):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(
                f"{script} stayed {value!r}; {self.troubles}; "
                + str(await self.run("document.body.innerText"))
            ) from None
        return value

    async def picture(self, file: Path, *, whole: bool = True) -> None:
        """A PNG of the page, or of what fits the window."""
        shown = await self.call(
            "Page.captureScreenshot", format="png", captureBeyondViewport=whole,
            **({"clip": await self._clip()} if whole else {}),
        )  # fmt: skip
        await asyncio.to_thread(file.write_bytes, base64.b64decode(shown["data"]))

    async def _clip(self) -> dict[str, float]:
        height = await self.run("document.documentElement.scrollHeight")
        return {"x": 0, "y": 0, "width": self.width, "height": height, "scale": 1}

    async def close(self) -> None:
        await self.call("Page.close")


@contextlib.asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Browser]:
    """One that keeps all it writes below `folder`, and ends with the block."""
    assert CHROMIUM is not None
    read_commands, write_commands = os.pipe()
    read_events, write_events = os.pipe()
    # The shell puts our pipes where Chromium looks for them, whatever their numbers are here.
    script = f'exec "$0" "$@" 3<&{read_commands} 4>&{write_events}'
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, CHROMIUM, *_OPTIONS, f"--user-data-dir={folder / 'profile'}",
        pass_fds=(read_commands, write_events),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder)}, start_new_session=True,
    )  # fmt: skip
    os.close(read_commands)
    os.close(write_events)
    loop = asyncio.get_running_loop()
    events = asyncio.StreamReader(limit=64 * 1024 * 1024)
    reading, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(events), os.fdopen(read_events, "rb")
    )
    writing, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(write_commands, "wb")
    )
    found = Browser(asyncio.StreamWriter(writing, protocol, None, loop), events)
    listening = asyncio.create_task(found.listen())
    try:
        yield found
    finally:
        with contextlib.suppress(AssertionError, OSError, TimeoutError):
            await found.call("Browser.close")
            async with asyncio.timeout(_COMMAND_S):
                await process.wait()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()
        reading.close()
        writing.close()
