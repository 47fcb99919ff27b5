"""The page in a real Chromium, over scripted states: what it shows, what it never does, and what it asks for."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from babelcast.spec import Controls, SegmentEntry
from tests.e2e.browser import chromium, opened
from tests.fakes.console_server import (
    FakeSource,
    FakeStream,
    bridge,
    console_server,
    destination_failing,
    live,
    newcomer,
    several,
    speech_dead,
)

pytestmark = [pytest.mark.integration, pytest.mark.browser, pytest.mark.timeout(90)]

_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    const names = entry.sources.map((source) => source.node?.className ?? source.node?.nodeName ?? "?");
    window.shifts.push({ value: entry.value, at: entry.startTime, names });
  }
}).observe({ type: "layout-shift", buffered: true });
"""
"""Chromium's own measure of what moved by itself (Cumulative Layout Shift)."""


async def focus(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = await page.evaluate(
        """() => {
          const node = document.activeElement, style = getComputedStyle(node);
          const label = node.getAttribute("aria-label") ?? node.textContent;
          return { tag: node.tagName, label, outline: style.outlineStyle };
        }"""
    )
    return found


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
async def test_nothing_moves_while_levels_come_ten_times_a_second(size: tuple[int, int]) -> None:
    source = FakeSource()
    live(source)
    async with console_server(source) as (url, _), chromium() as browser:
        async with opened(browser, url, "Ana", size=size) as page:
            await expect(page.locator(".meter-value").first).not_to_have_text("–")
            await expect(page.locator(".line").first).to_be_visible()
            await asyncio.sleep(0.5)
            await page.evaluate(_SHIFTS)
            settled = await page.evaluate("performance.now()")
            moved = await page.evaluate("document.querySelector('.meter-cover').style.transform")
            await asyncio.sleep(4.0)
            assert moved != await page.evaluate("document.querySelector('.meter-cover').style.transform")
            shifts = [each for each in await page.evaluate("window.shifts") if each["at"] > settled]
            assert sum(each["value"] for each in shifts) < 0.001, shifts
            wide = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1], "the page is wider than the screen"


class Hostile(FakeStream):
    """Its speakers have read about web pages."""

    def _segment(self, n: int, every: float) -> SegmentEntry:
        attack = f'<img src=x onerror="window.hacked={n}"><script>window.hacked={n}</script>'
        segment = super()._segment(n, every)
        return segment.model_copy(update={"transcript": attack, "translation": attack})


async def test_what_is_said_is_text_and_nothing_else() -> None:
    source = FakeSource()
    stream = source.add(Hostile("show"))
    attack = "<img src=x onerror='window.hacked=1'>"
    stream.destinations = {"youtube": ("failed", attack)}
    stream.last_error = attack
    stream.fallback, stream.cause = "original", "closed"
    source.note("controls_changed", "show", f"{attack}: force original (revision 1)")
    source.media_server_error = attack
    async with console_server(source) as (url, _), chromium() as browser, opened(browser, url, attack) as page:
        await expect(page.locator(".line-source").first).to_contain_text("<script>window.hacked=")
        await expect(page.locator(".dest-error")).to_contain_text(attack)
        await expect(page.locator(".alarm-advice").first).to_contain_text("<img")
        await asyncio.sleep(0.5)
        assert await page.evaluate("window.hacked") is None
        assert await page.locator("main img, main script").count() == 0


async def test_a_newcomer_is_told_what_to_type_and_sees_it_work() -> None:
    source = FakeSource()
    newcomer(source)
    async with console_server(source) as (url, watch), chromium() as browser, opened(browser, url) as page:
        values = page.locator(".copy-value")
        await expect(values.nth(0)).to_have_text("rtmp://127.0.0.1:1935/live/my-show")
        await expect(values.nth(1)).to_have_text("in")
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await page.get_by_role("button", name="Copy: Server").click()
        assert await page.evaluate("navigator.clipboard.readText()") == "rtmp://127.0.0.1:1935/live/my-show"
        await expect(page.locator(".way-help")).to_contain_text("address and the key")
        await page.get_by_role("link", name="Connect an encoder").click()
        await page.get_by_label("Name of the stream").fill("Not a name")
        await expect(page.locator(".start-card .field-error")).to_be_visible()
        await page.get_by_label("Name of the stream").fill("evening")
        await expect(values.nth(0)).to_have_text("rtmp://127.0.0.1:1935/live/evening")
        source.add(FakeStream("evening"))
        watch.poke()
        await expect(page.locator(".headline-name")).to_have_text("evening")  # it was waited for
        await expect(page.locator(".headline-title")).to_have_text("Dub on air")
        await expect(page.locator(".way li[data-state=ok]")).to_have_count(5)


async def test_a_destination_is_stopped_by_holding_and_an_alarm_acknowledged() -> None:
    source = FakeSource()
    destination_failing(source)
    async with (
        console_server(source) as (url, _),
        chromium() as browser,
        opened(browser, url, "Ana") as ana,
        opened(browser, url, "Ben") as ben,
    ):
        stop = ana.get_by_role("button", name="Stop youtube: hold")
        await stop.click()  # a slip of the finger
        await stop.evaluate("(button) => button.click()")  # as assistive technology does: asked, and dismissed
        await asyncio.sleep(0.3)
        assert source.streams["my-show"].enabled == {}
        await stop.hover()
        await ana.mouse.down()
        await expect(ben.get_by_role("button", name="Start youtube")).to_be_visible()
        await ana.mouse.up()
        assert source.streams["my-show"].enabled == {"youtube": False}
        await ben.get_by_role("button", name="Start youtube").click()
        await expect(ana.get_by_role("button", name="Stop youtube: hold")).to_be_visible()
        alarm = ana.locator(".alarm", has_text="twitch refuses")
        await expect(alarm).to_contain_text("stream key")
        await alarm.get_by_role("button", name="Acknowledge").click()
        await expect(ben.locator(".alarm", has_text="twitch refuses")).to_contain_text("seen by Ana")
        await expect(ben.locator(".events")).to_contain_text("Ana: youtube")


async def test_another_operators_change_is_not_overwritten() -> None:
    source = FakeSource()
    live(source)
    async with console_server(source) as (url, _), chromium() as browser:
        async with opened(browser, url, "Ana", faults=["412"]) as page:
            await expect(page.locator(".headline-title")).to_contain_text("Dub on air")
            stream = source.streams["my-show"]

            async def overtaken(route: Route) -> None:
                """Ben's change, of which Ana's page was not told before it sent hers."""
                stream.controls = stream.controls.model_copy(update={"revision": 7})
                source.note("controls_changed", "my-show", "Ben: mix.dub_gain 1.0 (revision 7)")
                await route.continue_()

            await page.route("**/controls", overtaken, times=1)
            fader = page.get_by_label("Background", exact=True)
            await page.evaluate("document.querySelector('.switch').click()")
            await expect(page.locator(".toast")).to_contain_text("Somebody else")
            assert not stream.controls.mix.ducking.enabled
            await expect(page.locator(".changed")).to_contain_text("Ben")
            await fader.focus()
            await page.keyboard.press("ArrowLeft")
            await expect(page.locator(".changed")).to_contain_text("Ana")
            assert stream.controls.mix.bg_gain == pytest.approx(0.891, abs=0.001)


_CUT_OFF = """
const whole = window.fetch;
window.fetch = async (path, options) => {
  if (options?.method !== "PATCH") return whole(path, options);
  const cut = new ReadableStream({ start: (body) => body.error(new TypeError("network error")) });
  return new Response(cut, { status: 200, headers: { "Content-Type": "application/json" } });
};
"""


async def test_an_answer_that_is_cut_off_is_not_taken_for_a_confirmation() -> None:
    source = FakeSource()
    live(source)
    async with console_server(source) as (url, _), chromium() as browser, opened(browser, url, "Ana") as page:
        await expect(page.locator(".headline-title")).to_have_text("Dub on air")
        await page.evaluate(f"() => {{ {_CUT_OFF} }}")
        await page.get_by_role("button", name="Original audio now").click()
        await expect(page.locator(".air-word")).to_have_text(
            "Not confirmed: The server did not answer: this is not confirmed"
        )


async def test_cut_off_it_says_so_and_a_newer_page_is_offered() -> None:
    source = FakeSource()
    live(source)
    async with chromium() as browser:
        async with console_server(source) as (url, _):
            port = int(url.rpartition(":")[2])
            context = opened(browser, url, "Ana", faults=["ERR_"])
            page = await context.__aenter__()
            await expect(page.locator(".link-word")).to_have_text("Connected")
            await expect(page.locator(".newer-page")).to_be_hidden()
        try:
            await expect(page.locator(".banner.lost")).to_contain_text("disconnected since")
            assert "grayscale" in await page.evaluate("getComputedStyle(document.querySelector('.board')).filter")
            await page.get_by_role("button", name="Original audio now").click()
            await expect(page.locator(".air-word")).to_contain_text("not confirmed")
            async with console_server(source, port=port, page="another"):
                await expect(page.locator(".link-word")).to_have_text("Connected")
                await expect(page.locator(".newer-page")).to_contain_text("newer version")
        finally:
            await context.__aexit__(None, None, None)


async def test_it_is_used_by_the_keyboard() -> None:
    source = FakeSource()
    speech_dead(source)
    async with console_server(source) as (url, _), chromium() as browser, opened(browser, url, "Ana") as page:
        await expect(page.locator(".headline-title")).to_contain_text("Original sound on air")
        await expect(page.get_by_role("button", name="Acknowledge")).to_be_visible()  # an alarm has lasted for a second
        labels = []
        for _ in range(60):
            await page.keyboard.press("Tab")
            found = await focus(page)
            if found["tag"] == "BODY":  # once round
                break
            assert found["outline"] != "none" and found["label"].strip(), found
            labels.append(found["label"])
        for wanted in ("Skip to the controls", "Acknowledge", "Original audio now", "Dub", "Delay"):
            assert any(wanted in label for label in labels), (wanted, labels)
        unnamed = await page.evaluate(
            "[...document.querySelectorAll('button, input, select, iframe, canvas')]"
            ".filter((node) => node.offsetParent && !(node.ariaLabel || node.title || node.textContent.trim() "
            "|| node.labels?.length)).map((node) => node.outerHTML)"
        )
        assert unnamed == []


async def test_who_skips_to_the_controls_stays_with_the_stream() -> None:
    source = FakeSource()
    several(source)
    async with console_server(source) as (url, _), chromium() as browser:
        async with opened(browser, f"{url}/#press-conference", "Ana") as page:
            await expect(page.locator(".headline-name")).to_have_text("press-conference")
            for view, controls in (
                ("press-conference", ".air-card"),
                ("~bridge", ".bridge-desk"),
                ("~new", ".start-card"),
            ):
                await page.evaluate(f"location.hash = '{view}'")
                await expect(page.locator(controls)).to_be_visible()
                await page.get_by_role("link", name="Skip to the controls").focus()
                await page.keyboard.press("Enter")
                await expect(page.locator(controls)).to_be_focused()
                assert await page.evaluate("location.hash") == f"#{view}"


async def test_several_streams_and_languages_and_the_bridge() -> None:
    source = FakeSource()
    several(source)
    async with console_server(source) as (url, _), chromium() as browser, opened(browser, url, "Ana") as page:
        await page.get_by_role("link", name="press-conference").click()
        await expect(page.locator(".headline-name")).to_have_text("press-conference")
        await page.get_by_role("button", name="de", exact=True).click()
        await expect(page.locator(".lines-head")).to_contain_text("German")
        await expect(page.locator(".download").nth(2)).to_have_attribute(
            "href", "api/v1/streams/press-conference/captions/de.vtt"
        )
        await page.get_by_role("link", name="Media bridge").click()
        await expect(page.locator(".bridge-stage h1")).to_have_text("The bridge is live")
        await expect(page.locator(".bridge-stage")).to_contain_text("libx264")
        await page.go_back()
        await expect(page.locator(".headline-name")).to_have_text("press-conference")


async def test_on_a_phone_what_is_chosen_is_in_sight_and_alarms_come_after_it() -> None:
    source = FakeSource()
    several(source)
    async with console_server(source) as (url, _), chromium() as browser:
        async with opened(browser, f"{url}/#~bridge", "Ana", size=(390, 844)) as page:
            await expect(page.locator(".bridge-stage h1")).to_have_text("The bridge is live")
            await expect(page.locator(".streams a[aria-current]")).to_be_in_viewport(ratio=1)
            tops = [await page.locator(each).bounding_box() for each in (".bridge-stage h1", ".alarms-card")]
            assert tops[0] and tops[1] and tops[0]["y"] < tops[1]["y"]


async def test_a_fader_moves_the_stream_it_was_moved_for() -> None:
    """Also where another one is chosen before it has come to rest."""
    source = FakeSource()
    several(source)
    async with console_server(source) as (url, _), chromium() as browser:
        async with opened(browser, f"{url}/#my-show", "Ana") as page:
            await page.get_by_label("Dub", exact=True).focus()
            await page.keyboard.press("ArrowLeft")
            await page.evaluate("location.hash = 'press-conference'")
            await expect(page.locator(".headline-name")).to_have_text("press-conference")
            await expect(page.locator(".events")).to_contain_text("my-show: controls Ana")
            gains = {name: source.streams[name].controls.mix.dub_gain for name in ("my-show", "press-conference")}
            assert gains == {"my-show": 0.8913, "press-conference": 1.0}


async def test_what_was_said_in_one_stream_is_not_shown_of_another() -> None:
    source = FakeSource()
    several(source)
    async with console_server(source) as (url, _), chromium() as browser:
        async with opened(browser, f"{url}/#my-show", "Ana", faults=["ERR_FAILED"]) as page:
            await expect(page.locator(".line").first).to_be_visible()
            await page.route("**/feed?stream=press-conference*", lambda route: route.abort())  # it takes its time
            await page.evaluate("location.hash = 'press-conference'")
            await expect(page.locator(".headline-name")).to_have_text("press-conference")
            assert await page.locator(".line").count() == 0


async def test_nothing_old_is_said_of_a_bridge_that_does_not_answer() -> None:
    source = FakeSource()
    bridge(source)
    async with console_server(source) as (url, _), chromium() as browser:
        async with opened(browser, f"{url}/#~bridge", "Ana") as page:
            await expect(page.locator(".bridge-stage")).to_contain_text("libx264")
            source.bridge_error = "the media bridge does not answer"
            await expect(page.locator(".bridge-stage h1")).to_have_text("The bridge does not answer")
            await expect(page.locator(".bridge-stage")).not_to_contain_text("libx264")


async def test_without_a_bridge_there_is_no_panel_for_it() -> None:
    source = FakeSource()
    live(source)
    async with console_server(source) as (url, watch), chromium() as browser, opened(browser, url) as page:
        await expect(page.locator(".streams li")).to_have_count(2)
        bridge(source)
        watch.poke()
        await expect(page.get_by_role("link", name="Media bridge")).to_be_visible()


async def test_without_any_stream_the_address_is_the_servers_own() -> None:
    async with console_server(FakeSource()) as (url, _), chromium() as browser, opened(browser, url) as page:
        await expect(page.locator(".copy-value").first).to_have_text("rtmp://127.0.0.1:1936/live/my-show")


async def test_who_fetches_the_token_elsewhere_finds_the_login_as_it_was() -> None:
    source = FakeSource()
    live(source)
    async with console_server(source, token="t0ken") as (url, _), chromium() as browser:
        async with opened(browser, url, "Ana", faults=["401"]) as page:
            await page.get_by_label("Token").fill("half a tok")
            for event in ("visibilitychange", "online"):  # back from the password manager
                await page.evaluate(
                    f"(document.dispatchEvent(new Event('{event}')), dispatchEvent(new Event('{event}')))"
                )
            await asyncio.sleep(1.0)
            await expect(page.locator(".screen")).to_have_count(1)
            await expect(page.get_by_label("Token")).to_have_value("half a tok")
            await page.get_by_label("Token").fill("t0ken")
            await page.get_by_role("button", name="Log in").click()
            await expect(page.locator(".link-word")).to_have_text("Connected")


async def test_what_is_not_seen_is_not_played_either() -> None:
    source = FakeSource()
    several(source)
    async with console_server(source, preview=True) as (url, _), chromium() as browser:
        async with opened(browser, url, "Ana", faults=["404"]) as page:  # the first frames come before the route
            await page.route("**/preview/**", lambda route: route.fulfill(body="a preview", content_type="text/html"))
            await page.locator(".streams a[href='#my-show']").click()
            await expect(page.locator(".previews iframe[src*='live/my-show']")).to_have_count(2)
            await page.get_by_role("link", name="Media bridge").click()
            await expect(page.locator("iframe[src='preview/bridge']")).to_have_count(1)
            await expect(page.locator("iframe")).to_have_count(1)
            await page.locator(".streams a[href='#my-show']").click()
            await expect(page.locator("iframe[src*='live/my-show']")).to_have_count(2)
            await expect(page.locator("iframe")).to_have_count(2)


async def test_what_is_said_to_be_is_of_the_language_that_it_is_now() -> None:
    source = FakeSource()
    live(source)
    stream = source.streams["my-show"]
    async with console_server(source) as (url, watch), chromium() as browser, opened(browser, url, "Ana") as page:
        link = page.locator(".download").first
        await expect(link).to_have_attribute("href", "api/v1/streams/my-show/captions/en.vtt")
        stream.source_language = "fr"
        watch.poke("my-show")
        await expect(page.locator(".lines-title").first).to_contain_text("French")
        await expect(link).to_have_attribute("href", "api/v1/streams/my-show/captions/fr.vtt")


async def test_levels_that_have_ended_are_not_shown_as_if_they_stood_still() -> None:
    source = FakeSource()
    live(source)
    stream = source.streams["my-show"]
    async with console_server(source) as (url, _), chromium() as browser, opened(browser, url, "Ana") as page:
        values = page.locator(".meter-value")
        await expect(values.last).not_to_have_text("–")
        stream.answers = False
        await expect(values.last).to_have_text("–")
        await page.reload()  # nor to somebody who comes then
        await expect(page.locator(".headline-name")).to_have_text("my-show")
        await asyncio.sleep(1.0)
        await expect(values.last).to_have_text("–")
        stream.answers = True
        await expect(values.last).not_to_have_text("–")


@pytest.mark.parametrize("size", [(1440, 900), (1280, 600), (1024, 768), (800, 1200), (390, 844)])
async def test_thirty_alarms_and_long_names_leave_room_for_the_controls(size: tuple[int, int]) -> None:
    source = FakeSource()
    several(source)
    long = source.add(FakeStream("a" * 63, ("es", "de", "pt-br")))
    error = "the far end refused " + "NetStream.Publish.BadName/" * 11
    long.destinations = {f"{'d' * 30}{n}": ("failed", error) for n in range(30)}
    async with console_server(source) as (url, _), chromium() as browser:
        async with opened(browser, f"{url}/#my-show", "Ana", size=size) as page:
            await expect(page.locator(".alarm").nth(30)).to_be_attached()  # and one of arena's
            await expect(page.locator(".air-original")).to_be_in_viewport(ratio=1)
            await expect(page.locator(".streams a[aria-current]")).to_be_in_viewport()
            cut_off = "(node) => node.scrollWidth > node.clientWidth"
            assert not await page.locator(".alarms-live").evaluate(cut_off)
            wide = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1], "the page is wider than the screen"
            if size[0] > 1240:
                await page.locator(".charts-card").hover()
                await page.mouse.wheel(0, 1000)
                await expect(page.locator(".events-card")).to_be_in_viewport(ratio=0.99)


async def test_a_browser_whose_clock_is_wrong_says_when_by_the_servers() -> None:
    source = FakeSource()
    live(source)
    async with chromium() as browser:
        page = await browser.new_page()
        await page.add_init_script("{ const now = Date.now; Date.now = () => now() - 3600_000 }")
        async with console_server(source) as (url, _):
            await page.goto(url)
            await expect(page.locator(".link-word")).to_have_text("Connected")
            await expect(page.locator(".top-clock")).not_to_be_empty()
            hour = int((await page.locator(".top-clock").inner_text()).split(":")[0])
        since = re.compile(f"since ({hour:02}|{(hour + 1) % 24:02}):")
        await expect(page.locator(".banner.lost")).to_contain_text(since)


async def test_what_could_not_be_copied_is_not_said_to_be() -> None:
    source = FakeSource()
    newcomer(source)
    async with console_server(source) as (url, _), chromium() as browser, opened(browser, url) as page:
        await page.evaluate(
            "() => { Object.defineProperty(navigator, 'clipboard', { value: undefined });"
            " document.execCommand = () => false; }"
        )
        button = page.get_by_role("button", name="Copy: Server")
        await button.click()
        await expect(button).to_have_text("Not copied")


async def test_a_tab_behind_others_says_in_its_title_what_is_wrong() -> None:
    source = FakeSource()
    live(source)
    async with console_server(source) as (url, watch), chromium() as browser, opened(browser, url, "Ana") as page:
        await expect(page).to_have_title("my-show: Dub on air")
        await page.evaluate("() => { window.requestAnimationFrame = () => 0; }")  # as there: no picture is made of it
        source.streams["my-show"].flows = False
        source.streams["my-show"].state = "retrying"
        watch.poke("my-show")
        await expect(page).to_have_title("(1) my-show: Starting again")


async def test_what_lies_between_two_steps_of_a_fader_is_told_as_it_is() -> None:
    source = FakeSource()
    live(source)
    source.streams["my-show"].controls = Controls(delay_s=6.2)
    async with console_server(source) as (url, _), chromium() as browser, opened(browser, url, "Ana") as page:
        fader = page.locator(".fader", has_text="Delay")
        await expect(fader.locator(".fader-value")).to_have_text("6.2 s")
        await page.get_by_label("Delay", exact=True).press("ArrowRight")
        await expect(page.locator(".changed")).to_contain_text("Ana")
        assert source.streams["my-show"].controls.delay_s == 6.5
