"""The bridge's own preview: its settings, and its page in a browser."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from playwright.async_api import async_playwright
from tests.bridge.rig import bridging, free_udp_port
from tests.conftest import chromium_binary
from tests.e2e.programs import until as wait_until

from babelcast.bridge import encoder
from babelcast.bridge.api import create_app
from babelcast.bridge.preview import PATH, FeedPath, preview_settings, previewing
from babelcast.errors import ConfigError
from babelcast.orchestrator.http_server import serving
from babelcast.process import end as end_process


@pytest.mark.unit
def test_settings_from_the_environment() -> None:
    settings = preview_settings(
        {
            "BABELCAST_PREVIEW_TOKEN": "view-only",
            "BABELCAST_PREVIEW_FRAME_ANCESTORS": "self, https://dashboard.example",
            "BABELCAST_PREVIEW_ICE_SERVERS": '[{"urls": "stun:stun.example"}]',
            "BABELCAST_PREVIEW_UDP_PORTS": "40000-40010",
            "BABELCAST_PREVIEW_VIEWERS": "4",
            "BABELCAST_PREVIEW_HOST": "",
        }
    )
    assert settings.frame_ancestors == ("'self'", "https://dashboard.example")
    assert (settings.viewers, settings.host, settings.udp_ports) == (4, None, "40000-40010")
    assert settings.ice_servers[0].urls == ("stun:stun.example",)


@pytest.mark.unit
@pytest.mark.parametrize(("name", "value"), [("ICE_SERVERS", "stun:x"), ("VIEWERS", "many"), ("HOST", "example.org")])
def test_a_wrong_one_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as error:
        preview_settings({f"BABELCAST_PREVIEW_{name}": value})
    assert error.value.key == f"BABELCAST_PREVIEW_{name}"


@pytest.mark.integration
async def test_a_programme_that_is_being_stopped_is_there_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its encoders may take some time to end. A page that is let go comes back at once, and is to find nothing."""
    source = {"SRT_URL": f"srt://127.0.0.1:{free_udp_port()}?mode=listener", "AUDIO_SOURCE": "silence"}
    encoders_may_end = asyncio.Event()

    async def end_late(process: asyncio.subprocess.Process, grace_s: float) -> None:
        await encoders_may_end.wait()
        await end_process(process, grace_s)

    async with bridging(source) as bridge:
        path = FeedPath(bridge)

        async def there(expected: bool) -> bool:
            found = await path.find(PATH)
            return found is not None and (found.url is not None) is expected

        await wait_until(lambda: there(True), "the slate is on air")
        monkeypatch.setattr(encoder, "end", end_late)
        stopping = asyncio.create_task(bridge.stop())
        try:
            await wait_until(lambda: there(False), "nothing to play", within_s=5.0)
            assert not stopping.done()
        finally:
            encoders_may_end.set()
            await stopping
        assert await there(False)


@pytest.mark.e2e
@pytest.mark.browser
async def test_the_programme_is_shown_while_there_is_one() -> None:
    source = {"SRT_URL": f"srt://127.0.0.1:{free_udp_port()}?mode=listener", "AUDIO_SOURCE": "silence"}
    async with contextlib.AsyncExitStack() as stack:
        bridge = await stack.enter_async_context(bridging(source))  # nobody sends: the slate is on air
        settings = preview_settings({"BABELCAST_PREVIEW_HOST": "127.0.0.1"})
        routes = await stack.enter_async_context(previewing(bridge, settings))
        port = await stack.enter_async_context(serving(create_app(bridge, None, routes), "127.0.0.1", 0))
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(executable_path=chromium_binary(), args=["--no-sandbox"])
        stack.push_async_callback(browser.close)
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{port}/preview")
        await page.wait_for_selector('html[data-state="live"]', timeout=20_000)
        await bridge.stop()
        await page.wait_for_selector('html[data-state="placeholder"]', timeout=10_000)
        await bridge.start()
        await page.wait_for_selector('html[data-state="live"]', timeout=20_000)
