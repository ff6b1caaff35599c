"""Takes the pictures of the documentation: `python -m tests.router.console.pictures FOLDER`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from shoal.router.console.console import Console
from tests.router.console.browser import browser
from tests.router.console.serving import serving
from tests.router.console.stage import StagedRouter, autoscaler, go_on, staged

PICTURES = {
    "console-light": (1280, 900, False),
    "console-dark": (1280, 900, True),
    "console-phone": (390, 844, False),
}


async def main(folder: Path) -> None:
    router = StagedRouter()
    console = Console(router, await staged(router))
    going = asyncio.create_task(go_on(router))
    with tempfile.TemporaryDirectory(prefix="shoal-pictures-") as profile:
        async with (
            serving(router, console, [autoscaler(router)]) as url,
            browser(Path(profile)) as chromium,
        ):
            for name, (width, height, dark) in PICTURES.items():
                page = await chromium.open(f"{url}/", width=width, height=height, dark=dark)
                await page.until("document.querySelectorAll('#routing .entry').length > 3")
                await page.run("document.querySelector('#range input[value=\"3600\"]').click()")
                await page.picture(folder / f"{name}.png")
                if page.troubles:
                    print(name, *page.troubles, sep="\n  ")
                await page.close()
    going.cancel()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
