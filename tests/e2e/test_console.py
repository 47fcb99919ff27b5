"""The operator's page in a real Chromium, over the real program: what is done on it is heard in what is published."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.async_api import Page, expect

from tests.e2e.browser import chromium, opened
from tests.e2e.programs import config_text, ffmpeg, orchestrator, publishing, relay, until, up
from tests.worker.ear import RATE, Ear

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(150)]

SOURCE_HZ = 1_500
"""The source's only sound; the tone backend speaks from 440 to 880 Hz, and the background is off the air."""
DELAY_S = 5.0
AT_ONCE_S = DELAY_S / 2
"""What an operator does takes effect where the programme leaves, not where it comes in."""
SETTINGS = f"delay: {DELAY_S}, backend: tone, separation: 'off', fallback: background, mix: {{bg_gain: 0.0}}"
"""Where a busy machine has no dub in time, nothing is heard: the original only when an operator wants it."""
TOKEN = "tOken-0123456789-console"


@pytest.fixture(scope="module")
def tone_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("console") / "tone.mp4"
    pictures = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25")
    sound = ("-f", "lavfi", "-i", f"sine=frequency={SOURCE_HZ}:sample_rate=48000,volume=0.5")
    codecs = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "0", "-c:a", "aac", "-ac", "2")
    ffmpeg(*pictures, *sound, "-t", "30", *codecs, path)
    return path


@contextlib.asynccontextmanager
async def listening(url: str) -> AsyncIterator[Ear]:
    ear = Ear()
    task = asyncio.create_task(ear.listen(url))
    try:
        await until(lambda: ear.frames, "sound of the programme")
        yield ear
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def rms(block: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(block))))


def is_original(block: np.ndarray) -> bool:
    """Whether the source's tone is most of it."""
    power = np.abs(np.fft.rfft(block * np.hanning(len(block)))) ** 2
    at = round(SOURCE_HZ * len(block) / RATE)
    return rms(block) > 0.005 and float(power[at - 2 : at + 3].sum() / power.sum()) > 0.5


def is_dub(block: np.ndarray) -> bool:
    return rms(block) > 0.005 and not is_original(block)


class Air:
    """What the viewers hear."""

    def __init__(self, ear: Ear, folder: Path) -> None:
        self._ear = ear
        self._folder = folder

    async def heard(
        self, what: Callable[[np.ndarray], bool], since: float, blocks: int = 20
    ) -> list[tuple[float, np.ndarray]]:
        """(arrival, samples) of what has come ``since`` and is so, as soon as there are so many ``blocks`` of it."""

        async def found() -> list[tuple[float, np.ndarray]] | None:
            all_of_it = await asyncio.to_thread(self._ear.blocks, self._folder)
            these = [(at, block) for at, block in all_of_it if at > since and what(block)]
            return these if len(these) >= blocks else None

        async with asyncio.timeout(20):
            while (these := await found()) is None:
                await asyncio.sleep(0.2)
        return these

    async def dub_db(self, since: float) -> float:
        blocks = await self.heard(is_dub, since)
        return 20 * float(np.log10(np.median([rms(block) for _, block in blocks])))


async def test_two_operators_run_a_show(tone_clip: Path, tmp_path: Path) -> None:
    """From nothing on air to a dub; the original at a tap, heard at once; a fader, heard as far as it says."""
    text = config_text(tmp_path, settings=SETTINGS, more=f"api_token: {TOKEN}")
    async with (
        up(tmp_path, text, TOKEN) as running,
        chromium() as browser,
        opened(browser, running.api, "Ana", faults=["401"]) as ana,
    ):
        await _log_in(ana)
        await expect(ana.locator(".start-card")).to_contain_text("Put show on air")
        port = running.publish_url.split(":")[2].split("/")[0]
        await expect(ana.locator(".copy-value").first).to_have_text(f"rtmp://127.0.0.1:{port}/live/show")
        async with (
            opened(browser, f"{running.api}/#show", "Ben", faults=["401"], size=(390, 844)) as ben,
            publishing(tone_clip, running.publish_url),
        ):
            await _log_in(ben)
            for step in ("Stream", "Pictures", "Sound", "Dub"):
                await expect(ana.locator(".way li", has_text=step).first).to_have_attribute("data-state", "ok")
            await expect(ana.locator(".headline-title")).to_contain_text("Dub on air")
            await expect(ana.locator(".others")).to_contain_text("2 operators")
            for part in ("in", "out"):  # the frames show pictures: the cookie lets them in
                inside = ana.frame_locator(f"iframe[src='preview/live/show/{part}']").locator("html")
                await expect(inside).to_have_attribute("data-state", "live", timeout=20_000)
            async with listening(running.watch_url) as ear:
                air = Air(ear, tmp_path)
                await air.heard(is_dub, 0.0)
                assert not await air.heard(is_original, 0.0, blocks=0), "the source's tone is heard under the dub"
                original_s = await _original(ana, ben, air)
                dub_s, before_db = await _back(ben, ana, air)
                step_db = await _fade(ana, ben, air) - before_db
    print(f"heard after the tap: original {original_s:.2f} s, dub {dub_s:.2f} s; the fader's step {step_db:.1f} dB")
    assert original_s < AT_ONCE_S and dub_s < AT_ONCE_S
    assert step_db == pytest.approx(-12, abs=1.5)


async def _log_in(page: Page) -> None:
    await page.get_by_label("Token").fill("wrong")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.locator(".login [role=alert]")).to_contain_text("not the token")
    await page.get_by_label("Token").fill(TOKEN)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.locator(".link-word")).to_have_text("Connected")
    cookies = await page.context.cookies()
    assert [(cookie["httpOnly"], cookie["sameSite"]) for cookie in cookies] == [(True, "Strict")]
    assert TOKEN not in str(cookies)
    assert TOKEN not in await page.evaluate("JSON.stringify(localStorage) + document.documentElement.outerHTML")


async def _original(ana: Page, ben: Page, air: Air) -> float:
    """Seconds from the tap until it is heard."""
    asked = time.monotonic()
    await ana.get_by_role("button", name="Original audio now").click()
    for page in (ana, ben):
        await expect(page.locator(".air-original")).to_have_attribute("aria-pressed", "true")
        await expect(page.locator(".air-hint")).to_contain_text("Ana")
        await expect(page.locator(".headline-title")).to_contain_text("Original sound on air")
    return (await air.heard(is_original, asked))[0][0] - asked


async def _back(ben: Page, ana: Page, air: Air) -> tuple[float, float]:
    """The same of the dub; and its level in dB."""
    asked = time.monotonic()
    await ben.get_by_role("button", name="Back to dub").click()
    for page in (ana, ben):
        await expect(page.locator(".air-original")).to_have_attribute("aria-pressed", "false")
    not_original = await air.heard(lambda block: not is_original(block), asked)
    return not_original[0][0] - asked, await air.dub_db(asked + 0.5)


async def _fade(ana: Page, ben: Page, air: Air) -> float:
    """The dub to -12 dB, by the keyboard; Ben's fader follows. Its level in dB."""
    fader = ana.get_by_label("Dub", exact=True)
    await fader.focus()
    for _ in range(12):
        await ana.keyboard.press("ArrowLeft")
    for page in (ana, ben):
        await expect(page.locator(".fader", has_text="Dub").first.locator(".fader-value")).to_have_text("−12 dB")
    await expect(ana.locator(".changed")).to_contain_text("Ana")
    await expect(ben.locator(".changed")).to_contain_text("mix.dub_gain 0.2512")
    return await air.dub_db(time.monotonic() + 0.5)


async def test_a_restart_of_the_server_is_survived(tone_clip: Path, tmp_path: Path) -> None:
    """The page says that it is cut off, comes back by itself without a reload, and the programme never noticed."""
    text = config_text(tmp_path, settings="delay: 2.0, backend: none")  # a speech service is `up`'s
    (tmp_path / "babelcast.yaml").write_text(text)
    async with (
        relay() as (api, rtmp),
        chromium() as browser,
        contextlib.AsyncExitStack() as first,
    ):
        program, url = await first.enter_async_context(orchestrator(tmp_path, api, rtmp))
        async with opened(browser, url, "Ana", faults=["ERR_"]) as page, publishing(tone_clip, f"{rtmp}/live/show/in"):
            await expect(page.locator(".headline-title")).to_have_text("On air")
            await page.get_by_role("button", name="Original audio now").click()
            await expect(page.locator(".air-original")).to_have_attribute("aria-pressed", "true")
            await page.evaluate("window.sameDocument = true")
            await program.interrupt()
            await expect(page.locator(".banner.lost")).to_contain_text("disconnected since")
            assert await page.evaluate("document.body.classList.contains('stale')")
            began = time.monotonic()
            async with orchestrator(tmp_path, api, rtmp) as (_, again):
                assert again == url
                ready_s = time.monotonic() - began
                await expect(page.locator(".link-word")).to_have_text("Connected")
                back_s = time.monotonic() - began - ready_s
                await expect(page.locator(".banner.lost")).to_be_hidden()
                await expect(page.locator(".air-original")).to_have_attribute("aria-pressed", "true")
                await expect(page.locator(".air-hint")).to_contain_text("Ana")
                await page.get_by_role("button", name="Back to dub").click()
                await expect(page.locator(".air-original")).to_have_attribute("aria-pressed", "false")
                await expect(page.locator(".headline-title")).to_have_text("On air")
                assert await page.evaluate("window.sameDocument")
                print(f"the page was back {back_s:.2f} s after the server")
