"""What an operator orders on the page, in a real Chromium: of which stream, shown how, and never lost in silence."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playwright.async_api import Locator, Page, Route, expect

from babelcast.spec import Controls, ControlsPatch
from tests.e2e.browser import chromium, opened
from tests.fakes.console_server import FakeSource, FakeStream, console_server, destination_failing, live, several

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


async def test_nobody_is_put_before_another_stream_because_theirs_is_gone() -> None:
    source = FakeSource()
    several(source)
    async with console_server(source) as (url, watch), chromium() as browser:
        async with opened(browser, f"{url}/#press-conference", "Ana") as page:
            await shows(page, "press-conference")
            gone = source.streams.pop("press-conference")  # as after a restart of the server
            watch.poke()
            await expect(page.locator(".streams")).not_to_contain_text("press-conference")
            await expect(page.locator(".start-card h1")).to_contain_text("press-conference is not here now")
            await expect(page.locator(".air-card")).to_be_hidden()
            assert await page.evaluate("location.hash") == "#press-conference"
            source.add(gone)
            watch.poke()
            await shows(page, "press-conference")
            await page.evaluate("location.hash = '~bridge'")
            await expect(page.locator(".bridge-stage h1")).to_have_text("The bridge is live")
            status, source.bridge_status = source.bridge_status, None
            await expect(page.locator(".bridge-desk")).to_be_hidden()
            await expect(page.locator(".air-card")).to_be_hidden()
            source.bridge_status = status
            await expect(page.locator(".bridge-stage h1")).to_have_text("The bridge is live")


async def test_a_show_that_comes_back_begins_with_the_first_change() -> None:
    source = FakeSource()
    live(source)
    stream = source.streams["my-show"]
    async with console_server(source) as (url, watch), chromium() as browser:
        async with opened(browser, url, "Ana", faults=["412"]) as page:
            switch = page.locator(".switch")
            await switch.click()
            await expect(switch).to_have_attribute("aria-checked", "true")
            stream.on_air, stream.controls = False, Controls()  # as the config has it: revision 0
            watch.poke("my-show")
            await expect(page.locator(".headline-title")).to_have_text("Off air")
            stream.on_air = True
            watch.poke("my-show")
            await expect(page.locator(".headline-title")).to_have_text("Dub on air")
            await switch.click()
            await expect(switch).to_have_attribute("aria-checked", "true")
            await expect(page.locator(".toast")).to_have_count(0)


async def test_an_address_that_names_no_stream_is_no_reason_to_stay_away() -> None:
    source = FakeSource()
    live(source)
    async with console_server(source) as (url, _), chromium() as browser:
        async with opened(browser, f"{url}/#My%20Show", "Ana", faults=["422"]) as page:
            await shows(page, "my-show")
            await expect(page.locator(".meter-value").first).not_to_have_text("–")


async def test_a_choice_that_was_refused_is_not_shown_as_made() -> None:
    source = FakeSource()
    live(source)
    async with console_server(source) as (url, watch), chromium() as browser:
        async with opened(browser, url, "Ana", faults=["ERR_FAILED"]) as page:
            fallback = page.get_by_label("What is heard when there is no dub")
            await page.route("**/controls", lambda route: route.abort())
            await fallback.focus()
            await fallback.select_option("silence")
            await expect(page.locator(".toast")).to_contain_text("not confirmed")
            await expect(fallback).to_have_value("original")
            change(source.streams["my-show"], {"fallback": "ducked"})
            watch.poke("my-show")
            await expect(fallback).to_have_value("ducked")


async def test_what_was_not_confirmed_is_said_of_its_own_stream_alone() -> None:
    source = FakeSource()
    several(source)
    async with console_server(source) as (url, watch), chromium() as browser:
        async with opened(browser, f"{url}/#my-show", "Ana", faults=["ERR_FAILED"]) as page:
            await page.route("**/my-show/controls", lambda route: route.abort())
            word = page.locator(".air-word")
            await page.get_by_role("button", name="Original audio now").click()
            await expect(word).to_contain_text("not confirmed")
            await page.evaluate("location.hash = 'studio-b'")
            await shows(page, "studio-b")
            await expect(word).to_have_text("Confirmed: the dub")
            await page.evaluate("location.hash = 'my-show'")
            await expect(word).to_contain_text("not confirmed")
            change(source.streams["my-show"], {"force": "original"})
            watch.poke("my-show")
            await expect(word).to_contain_text("Confirmed: original")


async def test_an_order_that_fails_late_does_not_speak_for_the_one_after_it() -> None:
    source = FakeSource()
    several(source)
    async with console_server(source) as (url, _), chromium() as browser:
        async with opened(browser, f"{url}/#my-show", "Ana", faults=["ERR_FAILED"]) as page:
            fail = asyncio.Event()

            async def late(route: Route) -> None:
                await fail.wait()
                await route.abort()

            await page.route("**/my-show/controls", late)
            await page.get_by_role("button", name="Original audio now").click()
            await page.evaluate("location.hash = 'studio-b'")
            await shows(page, "studio-b")
            await page.get_by_role("button", name="Original audio now").click()
            await expect(page.locator(".air-word")).to_contain_text("Confirmed: original")
            fail.set()
            await expect(page.locator(".toast")).to_contain_text("my-show")  # it's no longer before anybody
            await expect(page.locator(".air-word")).to_contain_text("Confirmed: original")


async def test_on_a_phone_the_button_says_of_which_stream_it_is_and_that_it_failed() -> None:
    source = FakeSource()
    several(source)
    source.add(FakeStream("long")).controls = Controls(revision=1, force="original")
    source.note("controls_changed", "long", f"{'W' * 40}: force original (revision 1)")
    async with console_server(source) as (url, _), chromium() as browser:
        async with opened(browser, f"{url}/#my-show", "Ana", size=(390, 844), faults=["ERR_FAILED"]) as page:
            await page.route("**/controls", lambda route: route.abort())
            button = page.locator(".air-original")
            await expect(button).to_contain_text("my-show")
            await page.evaluate("location.hash = 'long'")
            await expect(button).to_contain_text("W, ")  # and who has chosen it
            await expect(page.get_by_role("button", name="Back to dub")).to_be_in_viewport(ratio=1)
            await page.evaluate("location.hash = 'my-show'")
            await expect(button).to_contain_text("one tap")
            await button.click()
            await expect(button).to_contain_text("Not confirmed")
            await expect(button).to_be_in_viewport(ratio=1)


async def test_what_no_worker_has_is_not_on_air() -> None:
    source = FakeSource()
    live(source)
    stream = source.streams["my-show"]
    async with console_server(source) as (url, watch), chromium() as browser:
        async with opened(browser, url, "Ana") as page:
            await expect(page.locator(".headline-title")).to_have_text("Dub on air")
            stream.state = "retrying"  # it does not answer
            watch.poke("my-show")
            await expect(page.locator(".headline-title")).to_have_text("Starting again")
            await expect(page.locator(".air-word")).to_have_text("Starting again")
            await expect(page.locator(".way-help")).to_have_text("Starting again: the worker failed")
            await page.get_by_role("button", name="Original audio now").click()
            await expect(page.locator(".air-word")).to_contain_text("the worker has not got it yet")
            await expect(page.locator(".air-original")).not_to_contain_text("is on air")
            stream.state = "running"
            watch.poke("my-show")
            await expect(page.locator(".air-original")).to_contain_text("Original is on air")


async def test_whose_login_is_over_is_asked_for_it_when_something_is_ordered() -> None:
    source = FakeSource()
    live(source)
    async with console_server(source, token="t0ken") as (url, _), chromium() as browser:
        async with opened(browser, url, "Ana", faults=["401"]) as page:
            await page.get_by_label("Token").fill("t0ken")
            await page.get_by_role("button", name="Log in").click()
            await expect(page.locator(".headline-title")).to_have_text("Dub on air")
            await page.context.clear_cookies()
            await page.get_by_role("button", name="Original audio now").click()
            await page.get_by_label("Token").fill("t0ken")
            await page.evaluate("location.hash = '~new'")  # going back and forth brings no second one
            await page.evaluate("location.hash = 'my-show'")
            await asyncio.sleep(1.0)
            await expect(page.locator(".screen")).to_have_count(1)
            await page.get_by_role("button", name="Log in").click()
            await expect(page.locator(".screen")).to_have_count(0)
            await page.get_by_role("button", name="Original audio now").click()
            await expect(page.locator(".air-word")).to_contain_text("Confirmed: original")


async def test_where_the_browser_keeps_nothing_the_page_works_all_the_same() -> None:
    source = FakeSource()
    live(source)
    async with console_server(source) as (url, _), chromium() as browser:
        page = await browser.new_page()
        await page.add_init_script(
            "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError') } })"
        )
        await page.goto(url)
        await expect(page.locator(".headline-title")).to_have_text("Dub on air")
        await page.locator(".you").click()
        await page.get_by_label("Your name, for the others").fill("Ana")
        await page.get_by_role("button", name="Light or dark").click()
        await page.get_by_role("button", name="Keep").click()
        await page.get_by_role("button", name="Original audio now").click()
        await expect(page.locator(".air-hint")).to_contain_text("Ana")


async def test_an_order_gets_through_with_the_page_open_in_six_tabs() -> None:
    """A browser has six connections to a server, and each page's feed takes one for good."""
    source = FakeSource()
    live(source)
    async with console_server(source) as (url, _), chromium() as browser:
        context = await browser.new_context()
        for _tab in range(6):
            page = await context.new_page()
            await page.goto(url)
            await shows(page, "my-show")
        await page.get_by_role("button", name="Original audio now").click()
        await expect(page.locator(".air-word")).to_contain_text("Confirmed: original")
        await expect(page.locator(".meter-value").first).not_to_have_text("–")
        await page.get_by_role("button", name="Back to dub").click()
        await expect(page.locator(".air-word")).to_contain_text("Confirmed: the dub")
        await expect(page.locator(".link-word")).to_have_text("Connected")


_COUNT_LOSSES = """() => {
  window.losses = 0;
  const count = () => (window.losses += document.body.classList.contains("stale"));
  new MutationObserver(count).observe(document.body, { attributes: true });
}"""


async def test_while_an_order_takes_its_time_the_page_goes_on_telling() -> None:
    """A bridge that tries its encoders answers after half a minute."""
    source = FakeSource()
    several(source)
    answered = asyncio.Event()

    async def slow(route: Route) -> None:
        await answered.wait()
        await route.fulfill(status=503, json={"detail": "no encoder"})

    async with console_server(source) as (url, watch), chromium() as browser:
        async with opened(browser, f"{url}/#~bridge", "Ana", faults=["503"]) as page:
            await page.route("**/bridge/restart", slow)
            restart = page.get_by_role("button", name="Hold to restart")
            await expect(restart).to_be_enabled()
            async with page.expect_request("**/bridge/restart"):
                await restart.hover()
                await page.mouse.down()
            await page.mouse.up()
            await page.evaluate(_COUNT_LOSSES)
            await asyncio.sleep(1.5)  # by now it has lent its connection to the order
            source.add(FakeStream("late-show"))
            watch.poke()
            await expect(page.get_by_role("link", name="late-show")).to_be_visible()
            assert await page.evaluate("window.losses") == 0
            answered.set()
            await expect(page.locator(".toast")).to_contain_text("no encoder")


async def test_the_second_click_of_two_does_nothing_else() -> None:
    source = FakeSource()
    destination_failing(source)
    source.media_server_error = "connection refused"
    async with console_server(source) as (url, _), chromium() as browser, opened(browser, url, "Ana") as page:
        await expect(page.locator(".alarm")).to_have_count(3)
        box = await page.get_by_role("button", name="Acknowledge").first.bounding_box()
        assert box is not None
        at = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        await page.mouse.click(*at)
        await expect(page.locator(".alarm[data-seen]")).to_have_count(1)  # another one is in its place
        await page.mouse.move(*at)
        await page.mouse.down(click_count=2)
        await page.mouse.up(click_count=2)
        silence = page.get_by_role("button", name="Silence")
        await silence.click()
        await expect(silence).to_have_attribute("aria-pressed", "true")
        await silence.hover()
        await page.mouse.down(click_count=2)
        await page.mouse.up(click_count=2)
        await silence.focus()
        await asyncio.sleep(0.5)
        assert source.streams["my-show"].controls.force == "silence"
        assert await page.locator(".alarm[data-seen]").count() == 1


async def test_a_key_that_is_kept_down_orders_once() -> None:
    source = FakeSource()
    live(source)
    async with console_server(source) as (url, _), chromium() as browser, opened(browser, url, "Ana") as page:
        silence = page.get_by_role("button", name="Silence")
        await silence.focus()
        await page.keyboard.down("Enter")
        await expect(silence).to_have_attribute("aria-pressed", "true")
        await page.keyboard.down("Enter")  # as it repeats itself
        await asyncio.sleep(0.5)
        await page.keyboard.up("Enter")
        assert source.streams["my-show"].controls.force == "silence"


async def test_a_finger_that_has_held_stop_does_not_start_it_again_as_it_goes() -> None:
    source = FakeSource()
    live(source)
    async with console_server(source) as (url, _), chromium() as browser:
        context = await browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
        page = await context.new_page()
        await page.goto(url)
        stop = page.get_by_role("button", name="Stop youtube: hold")
        await stop.evaluate("(button) => button.scrollIntoView({ block: 'center' })")
        box = await stop.bounding_box()
        assert box is not None
        at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        finger = await context.new_cdp_session(page)
        await finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
        await expect(page.get_by_role("button", name="Start youtube")).to_be_visible()  # where the finger is
        await finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        await asyncio.sleep(0.5)
        assert source.streams["my-show"].enabled == {"youtube": False}


async def test_who_asks_for_a_stream_that_is_not_there_yet_is_put_before_no_other() -> None:
    """As with a bookmark, or when the page is loaded again while the server begins."""
    source = FakeSource()
    several(source)
    async with console_server(source) as (url, watch), chromium() as browser:
        async with opened(browser, f"{url}/#evening", "Ana") as page:
            await expect(page.locator(".start-card h1")).to_have_text("evening is not here now")
            await expect(page.locator(".copy-value").first).to_have_text("rtmp://127.0.0.1:1935/live/evening")
            await expect(page.locator(".air-card")).to_be_hidden()
            source.add(FakeStream("evening"))
            watch.poke()
            await shows(page, "evening")
            await expect(page.locator(".line").first).to_be_visible()
            await page.evaluate("location.hash = 'morning'")
            await expect(page.locator(".start-card h1")).to_have_text("morning is not here now")


async def test_the_order_that_was_given_last_is_the_one_that_holds() -> None:
    """None waits for another; an earlier one can be held up on its way, and come after it."""
    source = FakeSource()
    live(source)
    stream = source.streams["my-show"]
    async with console_server(source) as (url, _), chromium() as browser, opened(browser, url, "Ana") as page:
        overtaken = asyncio.Event()

        async def held_up(route: Route) -> None:
            if "silence" in (route.request.post_data or ""):
                await overtaken.wait()
            await route.continue_()

        await page.route("**/controls", held_up)
        await page.get_by_role("button", name="Silence").click()
        await page.get_by_role("button", name="Original audio now").click()
        await expect(page.locator(".air-original")).to_have_attribute("aria-pressed", "true")
        overtaken.set()
        await expect(page.locator(".events")).to_contain_text("silence on air")
        await expect(page.locator(".air-word")).to_contain_text("Confirmed: original")
        assert stream.controls.force == "original"
        assert stream.controls.revision == 3
