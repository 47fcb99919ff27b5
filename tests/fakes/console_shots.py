"""Pictures of the operator's page in every scene: ``python -m tests.fakes.console_shots FOLDER [SCENE …]``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from tests.conftest import chromium_binary
from tests.fakes.console_server import SCENES, FakeSource, console_server

SIZES = {"desktop": (1440, 900), "phone": (390, 844)}


async def shoot(browser: Browser, scene: str, size: str, folder: Path) -> None:
    source = FakeSource()
    SCENES[{"login": "live", "disconnected": "live", "light": "live"}.get(scene, scene)](source)
    wide, tall = SIZES[size]
    async with console_server(source, token="secret-token" if scene == "login" else None) as (url, watch):
        context = await browser.new_context(viewport={"width": wide, "height": tall}, has_touch=size == "phone")
        page = await context.new_page()
        page.on("pageerror", lambda error: print(scene, "failed:", error))
        theme = "light" if scene == "light" else "dark"
        await page.add_init_script(f"localStorage.operator = 'Ana'; localStorage.theme = '{theme}'")
        await page.goto(f"{url}/{'#~bridge' if scene.startswith('bridge') else ''}")
        await page.wait_for_timeout(10_000 if scene == "stalled" else 3_000)
        if scene == "disconnected":
            await context.set_offline(True)
            watch.close()
            await page.wait_for_timeout(2_500)
        await page.screenshot(path=folder / f"{scene}-{size}.png")
        if size == "phone":
            await page.screenshot(path=folder / f"{scene}-{size}-whole.png", full_page=True)
        await context.close()


async def main(folder: Path, scenes: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_binary(), args=["--no-sandbox"])
        for scene in scenes:
            for size in SIZES:
                await shoot(browser, scene, size, folder)
        await browser.close()


if __name__ == "__main__":
    wanted = sys.argv[2:] or [*SCENES, "login", "disconnected", "light"]
    asyncio.run(main(Path(sys.argv[1]), wanted))
