"""Takes the pictures of the documentation: `python -m tests.router.console.pictures FOLDER`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.router.console.browser import Page, browser
from tests.router.console.serving import stage
from tests.router.console.small_png import smaller

PICTURES = {
    "console-light": (1280, 900, False),
    "console-dark": (1280, 900, True),
    "console-phone": (390, 844, False),
}


async def look_around(page: Page) -> None:
    """All parts filled, a question asked, an hour shown."""
    await page.until("document.querySelectorAll('#routing .entry').length > 3")
    await page.run("document.querySelector('#range [value=\"3600\"]').click()")
    await page.until("document.querySelector('#chat-model').options.length > 0")
    await page.run(
        "document.querySelector('#question').value = 'Why do fish swim in shoals?';"
        "document.querySelector('#chat').requestSubmit()"
    )
    await page.until("document.querySelector('.told br') !== null")


def shrink(file: Path) -> None:
    file.write_bytes(smaller(file.read_bytes()))


async def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="shoal-pictures-") as profile:
        async with stage(pace_s=0.02) as (_, url), browser(Path(profile)) as chromium:
            for name, (width, height, dark) in PICTURES.items():
                page = await chromium.open(f"{url}/", width=width, height=height, dark=dark)
                await look_around(page)
                file = folder / f"{name}.png"
                await page.picture(file)
                await asyncio.to_thread(shrink, file)
                print(name, *page.troubles, sep="\n  ")
                await page.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
