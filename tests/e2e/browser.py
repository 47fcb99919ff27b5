"""A real Chromium, with all that went wrong in its pages."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from playwright.async_api import Browser, Page, async_playwright, expect

from tests.conftest import chromium_binary

ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]
_PATIENCE_MS = 20_000
expect.set_options(timeout=_PATIENCE_MS)  # five seconds by default, which a busy machine needs for a worker alone


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_binary(), args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def opened(
    browser: Browser, url: str, who: str = "", *, size: tuple[int, int] = (1440, 900), faults: list[str] | None = None
) -> AsyncIterator[Page]:
    """``url`` in a browser profile of its own, ``who`` at it. At the end no script has failed and no policy was broken;
    ``faults`` are words of console errors that are expected."""
    wrong: list[str] = []
    context = await browser.new_context(viewport={"width": size[0], "height": size[1]})
    page = await context.new_page()
    page.set_default_timeout(_PATIENCE_MS)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    await page.add_init_script(f"if (!localStorage.operator) localStorage.operator = {who!r}")
    await page.goto(url)
    try:
        yield page
        unexpected = [each for each in wrong if not any(word in each for word in faults or ())]
        assert not unexpected, unexpected
    finally:
        await context.close()
