"""The page in a headless browser, over a stage: what people see, do, and what must not go wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shoal.router.settings.access import AuthConfig
from shoal.router.settings.config import RouterConfig
from tests.router.console.browser import CHROMIUM, Browser, Page, browser
from tests.router.console.pictures import PICTURES, look_around
from tests.router.console.serving import console, serving, stage
from tests.router.console.stage import ANSWER, StagedRouter, api

pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="chromium is not installed: nobody has looked at the console"
    ),
    pytest.mark.asyncio(loop_scope="module"),
]
UNAUTHORIZED = "status of 401"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    async with browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


Staged = tuple[StagedRouter, str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def play() -> AsyncIterator[Staged]:
    async with stage() as found:
        yield found


async def overflow(page: Page) -> list[str]:
    """Elements that reach beyond the right edge, but for those in a box that scrolls."""
    found: list[str] = await page.run(
        """[...document.querySelectorAll('body *')]
            .filter((e) => e.getBoundingClientRect().right > innerWidth + 1
                           && !e.closest('.scroll, .out, svg') && e.checkVisibility())
            .map((e) => e.outerHTML.slice(0, 120))"""
    )
    if await page.run("document.documentElement.scrollWidth > innerWidth"):
        found.append("the page itself")
    return found


@pytest.mark.parametrize("name", PICTURES)
async def test_everything_is_there_in_every_size_and_colour(
    chromium: Browser, play: Staged, tmp_path: Path, name: str
) -> None:
    width, height, dark = PICTURES[name]
    page = await chromium.open(f"{play[1]}/", width=width, height=height, dark=dark)
    await look_around(page)
    assert await overflow(page) == []
    seen = await page.run(
        """({
            background: getComputedStyle(document.documentElement).backgroundColor,
            figures: [...document.querySelectorAll('#figures dd:not(.sub)')]
                .map((e) => e.innerText),
            paths: [...document.querySelectorAll('.chart path.stroke')]
                .map((e) => e.getAttribute('d').length),
            workers: document.querySelectorAll('#fleet tbody tr').length,
            scaling: document.querySelector('#scaling').innerText,
            routing: document.querySelector('#routing').innerText,
            answer: document.querySelector('.turn:last-child').innerText,
            bold: document.querySelector('#turns b'),
            summary: document.querySelector('#summary').innerText,
        })"""
    )
    red = int(seen["background"].split("(")[1].split(",")[0])
    assert (red < 40) is dark
    assert len(seen["figures"]) == 6
    assert all(text[0].isdigit() for text in seen["figures"])
    assert len(seen["paths"]) == 16  # every series of eight charts
    assert min(seen["paths"]) > 200
    assert seen["workers"] == len(play[0].endpoints())
    assert "→" in seen["scaling"]
    assert "expected when a replica is ready" in seen["scaling"]
    assert "least estimated time to first token" in seen["routing"]
    assert ANSWER in seen["answer"]  # its markup as text
    assert seen["bold"] is None
    assert "to the first token" in seen["answer"]
    assert "least estimated time" in seen["answer"]  # which worker, and why
    assert "workers ready, 2 models" in seen["summary"]
    file = tmp_path / f"{name}.png"
    await page.picture(file)
    assert file.stat().st_size > 50_000  # an empty page has a tenth
    assert page.troubles == []
    assert {url.removeprefix(play[1])[0] for url in page.requests} == {"/"}  # no other site
    await page.close()


async def test_nothing_moves_when_data_come(chromium: Browser, play: Staged) -> None:
    page = await chromium.open(f"{play[1]}/", width=1280, height=900)
    await page.until("document.querySelectorAll('#routing .entry').length > 3")
    shift = await page.run(
        """new Promise((done) => new PerformanceObserver((list) =>
            done(list.getEntries().reduce((sum, entry) => sum + entry.value, 0)))
            .observe({ type: 'layout-shift', buffered: true }) || setTimeout(() => done(0), 300))"""
    )
    assert shift < 0.05
    await page.close()


async def test_no_width_is_too_small_or_too_large(chromium: Browser, play: Staged) -> None:
    page = await chromium.open(f"{play[1]}/", width=320, height=900)
    await look_around(page)
    await page.run("for (const each of document.querySelectorAll('details')) each.open = true")
    for width in (320, 721, 1081, 2000):
        await page.resize(width, 900)
        assert await overflow(page) == [], width
    assert page.troubles == []
    await page.close()


async def test_the_keyboard_reaches_everything(chromium: Browser, play: Staged) -> None:
    page = await chromium.open(f"{play[1]}/", width=1280, height=900)
    await page.until("document.querySelectorAll('#routing .entry').length > 3")
    reached: list[str] = []
    for _ in range(80):
        for kind in ("keyDown", "keyUp"):
            await page.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab",
                            windowsVirtualKeyCode=9)  # fmt: skip
        where = await page.run(
            "(document.activeElement.closest('[id]') ?? {}).id + ' '"
            " + document.activeElement.tagName"
        )
        reached.append(where)
        if where.startswith("send "):
            break
    for wanted in ("model SELECT", "chart-replicas svg", "chart-tokens svg", "fleet BUTTON",
                   "routing SUMMARY", "scaling SUMMARY", "question TEXTAREA"):  # fmt: skip
        assert wanted in reached
    # Arrows move the cursor of all charts, and the legends tell what was there.
    note = await page.run(
        """document.querySelector('#chart-ttft svg').focus();
           document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft' }));
           document.querySelector('#chart-queue .at').innerText"""
    )
    assert note.count(":") == 2
    assert page.troubles == []
    await page.close()


async def test_a_worker_is_drained_after_a_question(chromium: Browser, play: Staged) -> None:
    router, url = play
    page = await chromium.open(f"{url}/", width=1280, height=900)
    await page.until("document.querySelector('[aria-label=\"Drain worker-a\"]') !== null")
    await page.run("document.querySelector('[aria-label=\"Drain worker-a\"]').click()")
    await page.until("document.querySelector('[aria-label=\"Undrain worker-a\"]') !== null")
    assert page.dialogs == ["Send nothing new to worker-a? Its running requests finish."]
    assert router.drained == {"worker-a"}
    await page.run("document.querySelector('[aria-label=\"Undrain worker-a\"]').click()")
    await page.until("document.querySelector('[aria-label=\"Drain worker-a\"]') !== null")
    assert router.drained == set()
    assert page.troubles == []
    await page.close()


async def test_one_model_at_a_time(chromium: Browser, play: Staged) -> None:
    page = await chromium.open(f"{play[1]}/", width=1280, height=900)
    await page.until("document.querySelector('#model').options.length === 3")
    await page.run(
        """document.querySelector('#model').value = 'qwen-2.5-0.5b';
           document.querySelector('#model').dispatchEvent(new Event('change'))"""
    )
    await page.until(
        """[...document.querySelectorAll('#routing strong')].map((e) => e.innerText.slice(0, 4))
            .join().match(/^(qwen,?)+$/)"""
    )
    assert page.troubles == []
    await page.close()


async def test_a_router_with_keys_and_one_with_nothing(chromium: Browser) -> None:
    router = StagedRouter()
    router.keys = ("sesame",)
    router.settings = RouterConfig(auth=AuthConfig(keys_file="keys.yaml"))
    nothing: Any = router
    nothing.endpoints = list
    nothing.decisions = _none
    async with serving(api(router)) as router.api_port, console(router) as url:
        page = await chromium.open(url, width=390, height=844)
        await page.until("!document.querySelector('#gate').hidden")
        for key in ("wrong", "sesame"):
            await page.run(
                f"document.querySelector('#admin-key').value = '{key}';"
                "document.querySelector('#gate').requestSubmit()"
            )
            await page.until(
                "document.querySelector('#trouble').innerText.includes('not one of')"
                if key == "wrong" else "document.querySelector('#gate').hidden"
            )  # fmt: skip
        text = await page.until("document.querySelector('#fleet-empty').innerText")
        assert "No workers yet" in text
        assert f"curl {url}/admin/endpoints" in text
        assert "shoal up" in await page.run("document.querySelector('#scaling').innerText")
        assert "No request has been routed" in await page.run(
            "document.querySelector('#routing').innerText"
        )
        # The chat box wants a key of the API, and knows the models once it has one.
        asked = "document.querySelector('#chat-model').options.length"
        assert await page.run(asked) == 0
        await page.run("document.querySelector('#chat-key').value = 'sk-1'")
        await page.until(f"{asked} === 2")
        assert await overflow(page) == []
        assert [each for each in page.troubles if UNAUTHORIZED not in each] == []
        assert not any("sesame" in request for request in page.requests)  # keys are in no address
        await page.close()


async def _none(limit: int) -> list[dict[str, Any]]:
    return []


async def test_a_router_that_goes_away_and_comes_back(chromium: Browser) -> None:
    router = StagedRouter()
    async with console(router) as url:
        page = await chromium.open(url, width=1280, height=900)
        await page.until("document.querySelectorAll('#fleet tbody tr').length > 0")
    await page.until("!document.querySelector('#trouble').hidden")
    assert await page.run("document.querySelector('#main').classList.contains('stale')")
    assert "does not answer" in await page.run("document.querySelector('#trouble').innerText")
    await page.close()
