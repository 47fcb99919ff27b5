"""What an operator orders on the page, in a real Chromium: of which stream, shown how, and never lost in silence."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from babelcast.spec import ControlsPatch
from tests.e2e.browser import chromium, opened
from tests.fakes.console_server import FakeSource, FakeStream, console_server, several

pytestmark = [pytest.mark.integration, pytest.mark.browser, pytest.mark.timeout(90)]


async def shows(page: Page, stream_id: str) -> None:
    await expect(page.locator(".headline-name")).to_have_text(stream_id)


def change(stream: FakeStream, patch: dict[str, Any]) -> None:
    """By another operator."""
    changed = stream.controls.patched(ControlsPatch.model_validate(patch))
    stream.controls = changed.model_copy(update={"revision": stream.controls.revision + 1})


async def thumb(fader: Locator) -> tuple[float, float]:
    """Where the handle of a fader from -40 to 12 stands while it is at 0."""
    box = await fader.bounding_box()
    assert box is not None
    return box["x"] + 11 + (box["width"] - 22) * 40 / 52, box["y"] + box["height"] / 2


async def test_a_fader_that_was_moved_and_moved_back_goes_on_showing_what_is_set() -> None:
    source = FakeSource()
    several(source)
    async with console_server(source) as (url, watch), chromium() as browser:
        async with opened(browser, f"{url}/#my-show", "Ana") as page:
            await shows(page, "my-show")
            fader = page.get_by_label("Dub", exact=True)
            x, y = await thumb(fader)
            await page.mouse.move(x, y)
            await page.mouse.down()
            await page.mouse.move(x - 60, y)
            await expect(fader).not_to_have_value("0")
            await page.mouse.move(x, y)
            await expect(fader).to_have_value("0")
            await page.mouse.move(x, y + 200)
            await page.mouse.up()
            change(source.streams["my-show"], {"mix": {"dub_gain": 0.5}})
            watch.poke("my-show")
            await expect(fader).to_have_value("-6")


async def test_a_faders_order_is_not_lost_when_the_next_streams_is_moved_at_once() -> None:
    source = FakeSource()
    several(source)
    async with console_server(source) as (url, _), chromium() as browser:
        async with opened(browser, f"{url}/#my-show", "Ana") as page:
            await shows(page, "my-show")
            move = """(at) => {
              const input = document.querySelector("input[aria-label=Dub]");
              input.value = at;
              for (const name of ["input", "change"]) input.dispatchEvent(new Event(name, { bubbles: true }));
            }"""
            await page.evaluate(move, -6)
            await page.evaluate("location.hash = 'arena'")
            await shows(page, "arena")
            assert await page.get_by_label("Dub", exact=True).input_value() == "0"  # and not the other stream's
            await page.evaluate(move, -12)
            await expect(page.locator(".events")).to_contain_text("arena: controls Ana")
            gains = [source.streams[name].controls.mix.dub_gain for name in ("my-show", "arena")]
            assert gains == pytest.approx([0.5012, 0.2512])


async def test_what_is_held_is_of_the_stream_it_was_begun_with() -> None:
    source = FakeSource()
    several(source)
    for name in ("my-show", "arena"):
        source.streams[name].destinations = {"youtube": ("live", None)}
    async with console_server(source) as (url, _), chromium() as browser:
        async with opened(browser, f"{url}/#my-show", "Ana") as page:
            for name in ("Restart the worker: hold", "Stop youtube: hold"):
                await page.evaluate("location.hash = 'my-show'")
                await shows(page, "my-show")
                await page.get_by_role("button", name=name).hover()
                await page.mouse.down()
                await page.evaluate("location.hash = 'arena'")
                await asyncio.sleep(1.3)
                await page.mouse.up()
            await asyncio.sleep(0.5)
            assert [event.kind for event in source.log if event.stream_id == "arena"] == []
            assert source.streams["arena"].enabled == {}
