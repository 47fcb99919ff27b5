"""``babelcast up`` in a browser: source and programme, with the view-only token, and nothing left at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.programs import STOPPED_S, config_text, publishing, until, up
from tests.preview.rig import browsing

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

_SHOWN = "document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"
_TOKENS = "api_token: all-of-it-token\npreview: {token: view-only-token, host: 127.0.0.1}"


async def test_source_and_programme(tmp_path: Path, talk: Path) -> None:
    text = config_text(tmp_path, settings="backend: tone, delay: 2", more=_TOKENS)
    async with up(tmp_path, text, token="all-of-it-token") as running, browsing() as browser:
        pages = {}
        for path in ("live/show/in", "live/show/out"):
            page = pages[path] = await browser.new_page()
            await page.goto(f"{running.api}/preview/{path}?token=view-only-token")
            await page.wait_for_selector('html[data-state="placeholder"]', timeout=20_000)
        async with publishing(talk, running.publish_url):
            for page in pages.values():
                await page.wait_for_selector('html[data-state="live"]', timeout=40_000)

            async def advance() -> bool:
                return all([await page.evaluate(_SHOWN) > 50 for page in pages.values()])

            await until(advance, "both advance")
            view = await running.get("/api/v1/preview/live/show/out")
            assert (view["pictures"], view["sound"], view["viewers"]) == ("passthrough", True, 1)
        status, seconds = await running.program.interrupt()
        assert (status, seconds < STOPPED_S) == (0, True)
        await running.program.all_gone()
    assert "view-only-token" not in running.program.text
