"""The page in a real browser, in a frame of another origin as a dashboard has it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Error, Frame, Page, Route
from pydantic import SecretStr

from babelcast.media_server.relay.client import RelayClient
from babelcast.media_server.relay.server import Relay
from babelcast.preview.settings import PreviewSettings
from tests.e2e.programs import until
from tests.preview.rig import (
    IN,
    Site,
    browsing,
    dashboard,
    embedded,
    publishing,
    relay_site,
    relaying,
    site,
    told,
    until_told,
)

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

EMBEDDED = PreviewSettings(host="127.0.0.1", frame_ancestors=("*",))
_SHOWN = "document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"
_TONE_DBFS = (-14.0, -10.0)
"""What the publisher's tone measures (sine × 4 of ffmpeg's default eighth)."""


@dataclass(frozen=True, slots=True)
class Scene:
    relay: Relay
    site: Site
    browser: Browser
    parent: str

    @property
    def ingest(self) -> str:
        return f"{self.relay.rtmp_url}/{IN}"

    async def watching(self, query: str = "?muted=0") -> Page:
        page = await self.browser.new_page()
        await embedded(page, self.site.page(query=query), dashboard=self.parent)
        return page


@contextlib.asynccontextmanager
async def _scene(folder: Path, **more: Any) -> AsyncIterator[Scene]:
    async with relay_site(folder, **{"settings": EMBEDDED} | more) as (relay, found):
        async with browsing() as browser, dashboard() as parent:
            yield Scene(relay, found, browser, parent)


def _frame(page: Page) -> Frame:
    return next(each for each in page.frames if "/preview/" in each.url)


async def _pictures(page: Page) -> int:
    """How many were shown so far."""
    found: int = await _frame(page).evaluate(
        "document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"
    )
    return found


async def _plays(page: Page) -> None:
    """Pictures advance at about their rate, and the tone is heard at its level."""
    before = await _pictures(page)
    await asyncio.sleep(2.0)
    assert 30 <= await _pictures(page) - before <= 120  # 50 were published, and as many may be caught up with

    async def heard() -> bool:
        audio = ((await told(page)) or {}).get("audio") or {}
        return _TONE_DBFS[0] < (audio.get("level_dbfs") or -100) < _TONE_DBFS[1]

    await until(heard, "the tone is heard", 8)


@pytest.mark.parametrize(("b_frames", "expected"), [(0, "passthrough"), (2, "reencoded")])
async def test_pictures_advance_and_sound_is_heard(tmp_path: Path, b_frames: int, expected: str) -> None:
    async with _scene(tmp_path) as scene, publishing(scene.ingest, b_frames=b_frames):
        page = await scene.watching()
        message = await until_told(page, "live")
        assert message["path"] == IN
        await _plays(page)
        view = await scene.site.view()
        assert (view["pictures"], view["sound"], view["viewers"], view["dropped"]) == (expected, True, 1, 0)
        video = ((await told(page)) or {})["video"]
        assert (video["width"], video["height"]) == (640, 360)
        second = await scene.watching()  # joins in the middle of a group of pictures
        await until_told(second, "live")
        await page.close()
        await _plays(second)
        await second.goto("about:blank")  # says goodbye; where that is lost, its silence tells
        await until(lambda: _viewers(scene.site, 0), "nobody watches any more", 25)


async def _viewers(found: Site, count: int) -> bool:
    return bool((await found.process.status()).viewers == count)


async def test_it_goes_live_by_itself_and_back(tmp_path: Path) -> None:
    async with _scene(tmp_path) as scene:
        page = await scene.watching()
        goodbyes: list[int] = []
        page.on("response", lambda each: goodbyes.append(each.status) if each.request.method == "DELETE" else None)
        message = await until_told(page, "placeholder")
        assert IN in message["reason"]
        for _ in range(2):
            async with publishing(scene.ingest):
                await until_told(page, "live")
                await _plays(page)
            await until_told(page, "placeholder")
        assert goodbyes == [], "nobody says goodbye to a session that the server has ended"


async def test_a_stream_that_ends_while_the_page_joins_is_no_error(tmp_path: Path) -> None:
    async with _scene(tmp_path) as scene, contextlib.AsyncExitStack() as source:
        page, answered = await scene.browser.new_page(), asyncio.Event()

        async def end_first(route: Route) -> None:
            answer = await route.fetch()
            await source.aclose()
            await until(lambda: _no_channel(scene.site), "the source is over")
            await route.fulfill(response=answer)
            answered.set()

        async def patient(route: Route) -> None:
            """A page that is not told of the end waits for the first picture; here until its browser gives up."""
            answer = await route.fetch()
            script = await answer.text()
            assert "FIRST_PICTURE_MS = 6000;" in script
            await route.fulfill(response=answer, body=script.replace("= 6000;", "= 600000;"))

        await page.route("**/preview.js", patient)
        await page.route("**/whep", end_first, times=1)
        await source.enter_async_context(publishing(scene.ingest))
        await embedded(page, scene.site.page(), dashboard=scene.parent)
        await answered.wait()
        await until_told(page, "placeholder", within_s=10.0)
        states = await page.evaluate("window.messages.map((each) => each.state)")
        assert list(dict.fromkeys(states)) == ["connecting", "placeholder"]


async def _no_channel(site: Site) -> bool:
    return not (await site.process.status()).channels


async def test_sound_without_pictures(tmp_path: Path) -> None:
    async with _scene(tmp_path) as scene, publishing(scene.ingest, pictures=False):
        page = await scene.watching()
        message = await until_told(page, "live")
        assert message["video"] is None
        assert "no pictures" in await _frame(page).inner_text("#detail")


async def test_pictures_without_sound(tmp_path: Path) -> None:
    async with _scene(tmp_path) as scene, publishing(scene.ingest, sound=False):
        page = await scene.watching()
        assert (await until_told(page, "live"))["audio"] is None
        before = await _pictures(page)
        await until(lambda: _more(page, before + 20), "pictures advance")


async def _more(page: Page, count: int) -> bool:
    return await _pictures(page) > count


async def test_tokens(tmp_path: Path) -> None:
    settings = EMBEDDED.model_copy(update={"token": SecretStr("view-only-token")})
    async with _scene(tmp_path, settings=settings, token="all-of-it-token") as scene:
        async with publishing(scene.ingest):
            for query, said in (("", "A token is needed"), ("?token=wrong", "The token is not valid")):
                page = await scene.watching(query)
                assert (await until_told(page, "error"))["reason"].startswith(said)
                await page.close()
            for query in ("?token=view-only-token", "#token=view-only-token"):
                page = await scene.watching(query)
                await until_told(page, "live")
                await page.close()


async def test_the_server_comes_back(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    async with relaying() as relay, contextlib.aclosing(RelayClient(relay.api_url, relay.rtmp_url)) as client:
        async with publishing(f"{relay.rtmp_url}/{IN}"), browsing() as browser, dashboard() as parent:
            page = await browser.new_page()
            async with site(client, tmp_path, EMBEDDED, port=port) as found:
                await embedded(page, found.page(query="?muted=0"), dashboard=parent)
                await until_told(page, "live")
            message = await until_told(page, "error")
            assert "does not answer" in message["reason"]
            async with site(client, tmp_path, EMBEDDED, port=port):
                await until_told(page, "live")
                await _plays(page)


_CUT_OFF = """
const whole = window.fetch;
window.cut = 0;
window.fetch = async (path, options) => {
  const answer = await whole(path, options);
  if (window.cut++) return answer;
  const body = new ReadableStream({ start: (body) => body.error(new TypeError("network error")) });
  return new Response(body, { status: answer.status, headers: answer.headers });
};
"""


async def test_an_answer_that_is_cut_off_is_no_fault_of_the_page(tmp_path: Path) -> None:
    async with _scene(tmp_path) as scene, publishing(scene.ingest):
        page = await scene.browser.new_page()
        faults: list[str] = []
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        await page.add_init_script(_CUT_OFF)
        await embedded(page, scene.site.page(), dashboard=scene.parent)
        await until_told(page, "live")
        reasons = await page.evaluate("window.messages.map((each) => each.reason)")
        assert "The server does not answer." in reasons, reasons
        assert not any("TypeError" in fault for fault in faults), faults


async def test_the_preview_process_is_killed(tmp_path: Path) -> None:
    async with _scene(tmp_path) as scene, publishing(scene.ingest):
        page = await scene.watching()
        await until_told(page, "live")
        assert scene.site.process.pid is not None
        before = await page.evaluate("window.messages.length")
        os.kill(scene.site.process.pid, signal.SIGKILL)
        await until(lambda: _was_not_live(page, before), "the page notices")
        await until_told(page, "live")
        await _plays(page)


async def _was_not_live(page: Page, after: int) -> bool:
    """Be it for a moment."""
    return bool(await page.evaluate(f"window.messages.slice({after}).some((each) => each.state !== 'live')"))


async def test_a_picture_that_stands_still_is_not_called_live(tmp_path: Path) -> None:
    """Nor while it's asked what there is, which takes its time where the network is away."""
    async with _scene(tmp_path) as scene:
        async with publishing(scene.ingest):
            page = await scene.watching()
            await until_told(page, "live")
            answer = asyncio.Event()

            async def late(route: Route) -> None:
                await answer.wait()
                await route.abort()

            await page.route(f"**/api/v1/preview/{IN}", late)
        message = await until_told(page, "connecting", 5)
        answer.set()
        assert message["video"] is None


async def test_the_parent_turns_the_sound_on_and_off(tmp_path: Path) -> None:
    async with _scene(tmp_path) as scene, publishing(scene.ingest):
        page = await scene.watching("")
        assert (await until_told(page, "live"))["muted"]
        for muted in (False, True):
            command = f"frames[0].postMessage({{type: 'babelcast.preview.command', muted: {str(muted).lower()}}}, '*')"
            await page.evaluate(command)
            await until(functools.partial(_is_muted, page, muted), f"muted: {muted}")


async def _is_muted(page: Page, muted: bool) -> bool:
    return ((await told(page)) or {}).get("muted") is muted


async def test_a_frozen_viewer_slows_nobody(tmp_path: Path) -> None:
    async with _scene(tmp_path) as scene, publishing(scene.ingest), browsing() as frozen:
        stuck = await frozen.new_page()
        await embedded(stuck, scene.site.page(), dashboard=scene.parent)
        await until_told(stuck, "live")
        await stuck.evaluate("setTimeout(() => { for (;;); }, 0)")  # its page answers no more
        page = await scene.watching()
        await until_told(page, "live")
        await _plays(page)
        assert (await scene.site.view())["dropped"] == 0


async def test_a_viewer_that_crashes_is_given_up(tmp_path: Path) -> None:
    async with _scene(tmp_path) as scene, publishing(scene.ingest):
        page = await scene.watching()
        await until_told(page, "live")
        with contextlib.suppress(Error):
            await page.goto("chrome://crash")
        await until(lambda: _viewers(scene.site, 0), "it is given up", 30)


async def test_a_page_of_a_stranger_may_not_embed_it(tmp_path: Path) -> None:
    async with _scene(tmp_path, settings=PreviewSettings(host="127.0.0.1")) as scene:
        page = await scene.watching()
        await asyncio.sleep(1.0)
        assert await told(page) is None
