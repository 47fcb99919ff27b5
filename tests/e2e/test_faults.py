"""What breaks while a stream is on air, seen from the destination: pictures and sound go on, and all comes back.

``make test`` breaks the most likely things; ``make faults`` all of them, and writes docs/reference/faults.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from babelcast.audio.clicks import find_clicks
from babelcast.units import RATE, Pcm
from tests.e2e.faults.catalogue import AROUND, SPEECH, Fault
from tests.e2e.faults.measure import decoded, gaps
from tests.e2e.faults.page import write_page
from tests.e2e.faults.stage import DELAY_S, KEY, Outcome, Stage, make_programme, on_air
from tests.e2e.programs import config_text, orchestrator, publishing, relay, until
from tests.fakes.rtmp_destination import FakeDestination

pytestmark = [pytest.mark.e2e]

Pages = dict[str, dict[str, Outcome]]
"""What came of each fault, by media server."""
BUSY_S = 0.5
"""What a machine that also runs other tests may add to a gap by arrival."""
BLOCK_S = 0.1
"""What it may be by where the blocks of sound lie."""


@pytest.fixture(scope="module")
def page() -> Iterator[Pages]:
    pages: Pages = {"relay": {}, "mediamtx": {}}
    yield pages
    if os.environ.get("BABELCAST_WRITE_FAULTS") and any(pages.values()):
        found = {server: list(outcomes.values()) for server, outcomes in pages.items()}
        write_page(Path(__file__).parents[2] / "docs" / "reference" / "faults.md", found)


def _check(fault: Fault, outcome: Outcome, slack_s: float) -> None:
    gaps = outcome.gaps
    if fault.dead_air_s is not None:
        assert gaps.sound <= fault.dead_air_s + slack_s, outcome
    assert gaps.sessions <= fault.sessions, outcome
    if gaps.sessions == 1 and fault.dead_air_s is not None:
        assert gaps.sound_time < max(0.1, fault.dead_air_s if fault.dead_air_s > 0.5 else 0.0), outcome
    assert KEY not in outcome.said


async def _break(stage: Stage, faults: Sequence[Fault], slack_s: float, page: dict[str, Outcome]) -> None:
    wrong = []
    for fault in faults:
        try:
            outcome = await stage.through(fault.name, fault.what, fault.breaks, fault.says, after_s=fault.settle_s)
            page[outcome.name] = outcome
            _check(fault, outcome, slack_s)
        except AssertionError as error:
            stage.mend()
            wrong.append(f"{fault.name}: {error}")
            print(wrong[-1])
    assert not wrong, "\n".join(wrong)
    assert KEY not in stage.running.program.text and "Traceback" not in stage.running.program.text


@pytest.mark.timeout(120)
async def test_the_speech_service_breaks(tmp_path: Path) -> None:
    async with on_air(tmp_path) as stage:
        await stage.dumps("POST", seconds=5)
        await _break(stage, [fault for fault in SPEECH if fault.quick], BUSY_S, {})
        dumped = await stage.dumps("DELETE")
        assert {name.partition("-")[0] for name in dumped["files"]} == {"source", "background", "dub.es", "mix.es"}
        assert (dumped["error"], dumped["dropped_blocks"]) == (None, 0)
        worker = (await stage.running.stream())["worker"]
        assert (worker["generation"], worker["failures"]) == (1, 0)


@pytest.mark.timeout(120)
async def test_what_is_around_breaks(tmp_path: Path) -> None:
    quick = [fault for fault in AROUND if fault.quick]
    harmless = [fault for fault in quick if fault.dead_air_s == 0.5]
    async with on_air(tmp_path, own_speech=True) as stage:
        await _operator_changes(stage)
        await _break(stage, harmless, BUSY_S, {})
        _does_not_click(decoded(stage.platform.sessions[0], tmp_path))
        await _break(stage, [fault for fault in quick if fault not in harmless], BUSY_S, {})


async def _operator_changes(stage: Stage) -> None:
    """Force on and off, gains, ducking: half a second of each."""
    await stage.controls(mix={"bg_gain": 0.3, "dub_gain": 0.7})
    for force in ("original", "silence", "background", "none"):
        await asyncio.sleep(0.5)
        await stage.controls(force=force)
    await stage.controls(mix={"bg_gain": 1.0, "dub_gain": 1.0, "ducking": {"enabled": True}})


def _does_not_click(heard: Pcm) -> None:
    """Of the published stream: a steady dub, the operator's changes, a source that goes and comes, fallbacks."""
    found = find_clicks(heard, coded=True)
    print(f"{len(heard) / RATE:.1f} s of the published stream: {len(found)} clicks {found[:5]}")
    assert not found, found
    broken = heard.copy()
    half = len(heard) // 2
    broken[half : half + RATE // 10] += 0.2 * np.exp(-np.arange(RATE // 10, dtype=np.float32) / RATE * 50)[:, None]
    assert find_clicks(broken, coded=True), "the finder hears a step"


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_everything_breaks_about_the_speech_service(tmp_path: Path, page: Pages) -> None:
    async with on_air(tmp_path) as stage:
        await _break(stage, SPEECH, BLOCK_S, page["relay"])


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("server", ["relay", pytest.param("mediamtx", marks=pytest.mark.mediamtx)])
async def test_everything_else_breaks(tmp_path: Path, page: Pages, server: str) -> None:
    async with on_air(tmp_path, own_speech=True, server=server) as stage:
        await _break(stage, AROUND, BLOCK_S, page[server])


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_the_orchestrator_is_killed(tmp_path: Path, page: Pages) -> None:
    """Workers and egress go on, and are adopted by the next one."""
    async with contextlib.AsyncExitStack() as stack:
        platform = await stack.enter_async_context(FakeDestination().listening())
        server_api, rtmp = await stack.enter_async_context(relay())
        destination = f'destinations: [{{name: platform, url: "{platform.url}", key: "{KEY}"}}]'
        text = config_text(tmp_path, settings=f"delay: {DELAY_S}, backend: none", stream=destination)
        (tmp_path / "babelcast.yaml").write_text(text)
        first, _ = await stack.enter_async_context(orchestrator(tmp_path, server_api, rtmp))
        await stack.enter_async_context(publishing(make_programme(tmp_path), f"{rtmp}/live/show/in"))
        await until(lambda: platform.sessions and len(platform.sessions[-1].messages) > 300, "the programme", 40)
        loop = asyncio.get_running_loop()
        killed = loop.time()
        first.process.kill()
        await asyncio.sleep(3)
        mended = loop.time()
        second, api = await stack.enter_async_context(orchestrator(tmp_path, server_api, rtmp))
        http = await stack.enter_async_context(aiohttp.ClientSession())

        async def adopted() -> bool:
            async with http.get(f"{api}/api/v1/streams/show") as answer:
                view = await answer.json()
            return bool(view["state"] == "running" and [d["state"] for d in view["destinations"]] == ["live"])

        await until(adopted, "worker and egress are adopted")
        recovered_s = loop.time() - mended
        await asyncio.sleep(2)
        found = gaps(platform.sessions, killed - 0.1, loop.time())
        assert second.processes("babelcast worker") == []
    what = "SIGKILL, another one started 3 s later"
    outcome = Outcome("orchestrator killed", what, mended - killed, recovered_s, found, "nothing: it adopts what runs")
    page["relay"][outcome.name] = outcome
    print(outcome)
    assert (found.sessions, platform.attempts) == (1, 1)
    assert found.sound < 0.5 and found.sound_time < 0.1 and found.picture_time < 0.1, "nothing is missing"
