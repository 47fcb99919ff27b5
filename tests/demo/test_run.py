"""The whole course of the demo, with a forwarder in the place of the program."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from rich.console import Console

from babelcast.demo.measure import measure
from babelcast.demo.media import check_input
from babelcast.demo.report import page
from babelcast.demo.run import DemoOptions, ThirdParty, caption_texts, run_demo, third_party
from babelcast.errors import BabelcastError, MissingDependencyError
from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from tests.demo.synthetic import Flaws, make_inputs

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class ForwardingApp:
    """A relay and an ffmpeg that copies the stream to the third party as it is."""

    rtmp: str
    api_url: str
    media_server: str = "relay"

    def publish_url(self, stream_id: str) -> str:
        return f"{self.rtmp}/live/{stream_id}/in"


async def _api(journal: Path) -> web.AppRunner:
    """A stream that is live and has two segments, as the orchestrator would say it."""

    async def stream(_: web.Request) -> web.Response:
        target = {"language": "es", "output_state": "live", "fallback_seconds": 1.25, "dub_lag_s": 3.0}
        return web.json_response({"status": {"state": "live", "delay_s": 6.0, "targets": [target]}})

    async def segments(request: web.Request) -> web.Response:
        found = [json.loads(line) for line in journal.read_text().splitlines()]
        return web.json_response([item for item in found if item["sequence"] > int(request.query["after"])])

    app = web.Application()
    app.add_routes([web.get("/api/v1/streams/demo", stream), web.get("/api/v1/streams/demo/segments", segments)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


async def test_the_demo_publishes_records_measures_and_reports(tmp_path: Path, short_clip: Path) -> None:
    journal = tmp_path / "segments.es.jsonl"
    entries = make_inputs(tmp_path, short_clip, Flaws()).entries
    journal.write_text("".join(entry.model_dump_json() + "\n" for entry in entries))
    out = io.StringIO()
    async with third_party() as platform, Relay(RelaySettings(rtmp_port=0, api_port=0)) as relay:
        runner = await _api(journal)
        host, port = runner.addresses[0][:2]
        app = ForwardingApp(relay.rtmp_url, f"http://{host}:{port}")
        forward = asyncio.create_task(_forward(app.publish_url("demo"), platform.read_url))
        options = DemoOptions(
            clip=short_clip,
            folder=tmp_path / "report",
            stream_id="demo",
            third_party=platform,
            journal=journal,
            seconds=14,
            delay_s=2.0,
            console=Console(file=out, width=100),
        )
        try:
            report = await run_demo(app, options)
        finally:
            forward.cancel()
            await asyncio.gather(forward, return_exceptions=True)
            await runner.cleanup()
    assert report.video_identical, report.gates
    assert report.output_seconds > 11
    assert report.fallback_seconds == 1.25 and report.delay_s == 6.0
    assert report.av_offset_ms_median == pytest.approx(0, abs=2)
    # nothing was dubbed, though the journal says so
    assert report.dub_segments == 3 and report.dub_segments_found == 0 and not report.passed
    names = {path.name for path in options.folder.iterdir()}
    promised = "report.json report.html original.mp4 dubbed.mp4 captions.en.vtt captions.es.vtt"
    assert names == set(promised.split())
    assert out.getvalue().count("“hello everyone") == 1


async def _forward(source: str, target: str) -> None:
    while True:
        process = await asyncio.create_subprocess_exec(
            *("ffmpeg", "-v", "error", "-copyts", "-i", source, "-c", "copy", "-f", "flv", target),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        await asyncio.sleep(0.1)


async def test_a_server_that_is_not_there_is_an_error(tmp_path: Path, short_clip: Path) -> None:
    options = DemoOptions(
        clip=short_clip,
        folder=tmp_path / "report",
        stream_id="demo",
        third_party=ThirdParty("rtmp://127.0.0.1:9/platform", "secret-key", "http://127.0.0.1:9"),
        journal=tmp_path / "none.jsonl",
        seconds=14,
        console=Console(file=io.StringIO()),
    )
    with pytest.raises(BabelcastError, match=r"publishing clip\.mp4 failed") as caught:
        await run_demo(ForwardingApp("rtmp://127.0.0.1:9", "http://127.0.0.1:9"), options)
    assert "secret-key" not in str(caught.value)


async def test_a_file_of_ones_own_without_ffmpeg(short_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingDependencyError, match="apt install ffmpeg"):
        await check_input(short_clip)


def test_the_page_stands_alone_and_escapes_what_was_said(tmp_path: Path, short_clip: Path) -> None:
    inputs = make_inputs(tmp_path, short_clip, Flaws(missing=(1,)))
    report, evidence = measure(inputs)
    first = report.segments[0].model_copy(update={"transcript": "<script>alert(1)</script>", "source_start_s": -0.04})
    report = report.model_copy(update={"segments": (first, *report.segments[1:])})
    html = page(report, evidence, caption_texts(report))
    assert "<script" not in html and "&lt;script&gt;" in html and "−0.0" not in html
    assert "http:" not in html.replace("http://www.w3.org", "") and "https:" not in html
    assert html.count("<svg") == 5 and html.count("data:image/jpeg") == 2 and html.count("data:text/vtt") == 2
    assert "Not dubbed: 2. It is a beautiful night" in html and "✗ missed" in html
