"""The demo from outside: publish a clip to a running program, record what was published and what arrives at a
third party, measure, and write the report."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from rich.console import Console

from babelcast.captions.cues import Cue
from babelcast.captions.formats import vtt
from babelcast.demo import measure, report
from babelcast.demo.media import Publisher, Recorder, finish_mp4, recording
from babelcast.demo.progress import Progress
from babelcast.demo.result import Evidence, Report
from babelcast.errors import BabelcastError, MediaServerError
from babelcast.media_server.relay.client import RelayClient
from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings

_POLL_S = 0.5
_ARRIVAL_POLL_S = 0.1
_KEY_FRAME_BYTES = 8_000
"""More than the silence and the headers that come before the first picture, less than any key frame of ours."""
_QUIET_S = 2.5
"""The recording is whole when nothing has arrived for so long after the delay is over."""
_AFTER_S = 10.0
"""How long after the last picture plus the delay the rest is waited for at most."""
_FIRST_MEDIA_S = 30.0


class RunningApp(Protocol):
    """Implemented by app.App."""

    @property
    def media_server(self) -> str: ...

    @property
    def api_url(self) -> str: ...

    def publish_url(self, stream_id: str) -> str: ...


@dataclass(frozen=True)
class DemoOptions:
    """``clip`` is the file to publish; with a manifest beside it (:func:`clip.cached_clip`) everything can be
    measured. ``journal`` is where the worker of ``stream_id`` writes its segments. ``folder`` gets the report."""

    clip: Path
    folder: Path
    stream_id: str
    third_party: ThirdParty
    journal: Path
    seconds: float
    source_language: str = "en"
    target_language: str = "es"
    delay_s: float = 6.0
    backend: str = "sts"
    console: Console = field(default_factory=Console)


@dataclass(frozen=True)
class ThirdParty:
    """A second RTMP server. ``url`` and ``key`` as a streaming platform gives them; ``read_url`` is for us."""

    url: str
    key: str
    api_url: str

    @property
    def read_url(self) -> str:
        return f"{self.url}/{self.key}"


@contextlib.asynccontextmanager
async def third_party() -> AsyncIterator[ThirdParty]:
    """A relay that knows nothing of the program, on free ports; gone when the block ends."""
    async with Relay(RelaySettings(rtmp_port=0, api_port=0)) as relay:
        yield ThirdParty(f"{relay.rtmp_url}/platform", "demo-key", relay.api_url)


async def run_demo(app: RunningApp, options: DemoOptions) -> Report:
    """Publish, record, measure, report. Raises BabelcastError when nothing came out or nothing could be published."""
    options.folder.mkdir(parents=True, exist_ok=True)
    work = options.folder / ".work"
    work.mkdir(exist_ok=True)
    original, dubbed = work / "original.flv", work / "dubbed.flv"
    try:
        watch = await _on_air(app, options, original, dubbed)
        options.console.print("off air; measuring the two recordings from outside")
        result, evidence = await asyncio.to_thread(measure.measure, _inputs(app, options, original, dubbed, watch))
        await _write(options, result, evidence)
    finally:
        for path in (original, dubbed):
            path.unlink(missing_ok=True)
        work.rmdir()
    return result


async def _on_air(app: RunningApp, options: DemoOptions, original: Path, dubbed: Path) -> _Watch:
    """From the first published picture to the last that arrives. Returns what was seen of it."""
    publisher = Publisher(options.clip, app.publish_url(options.stream_id))
    async with contextlib.AsyncExitStack() as stack:
        timeout = aiohttp.ClientTimeout(total=2.0)
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        published = await stack.enter_async_context(recording(app.publish_url(options.stream_id), original))
        arrived = await stack.enter_async_context(recording(options.third_party.read_url, dubbed))
        watch = _Watch(http, app.api_url, options.stream_id, arrived)
        progress = stack.enter_context(Progress(options.console, options.seconds))
        await publisher.start()
        stack.push_async_callback(publisher.stop)
        sending = asyncio.create_task(publisher.wait(), name="demo publisher")
        stack.push_async_callback(_end, sending)
        arrival = asyncio.create_task(watch.await_first_picture(options.third_party), name="first picture out")
        stack.push_async_callback(_end, arrival)
        while not sending.done():
            await watch.poll(progress)
            if watch.elapsed_s > _FIRST_MEDIA_S and not arrived.bytes_recorded:
                raise BabelcastError(
                    f"nothing arrived at the third party within {_FIRST_MEDIA_S:.0f} s",
                    hint="the lines above say what the worker and the forwarder met with",
                )
            await asyncio.wait({sending}, timeout=_POLL_S)
        sending.result()
        await _drain(watch, progress, options.delay_s)
        await arrived.stop()
        await published.stop()
        return watch


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _drain(watch: _Watch, progress: Progress, delay_s: float) -> None:
    """What was published last leaves the delay later."""
    end = watch.elapsed_s
    while watch.elapsed_s < end + delay_s + _AFTER_S:
        await watch.poll(progress)
        if watch.arrived.ended or (watch.elapsed_s > end + delay_s and watch.quiet_s > _QUIET_S):
            return
        await asyncio.sleep(_POLL_S)


class _Watch:
    """What the API says of the stream, and how the third party's recording grows."""

    def __init__(self, http: aiohttp.ClientSession, api_url: str, stream_id: str, arrived: Recorder) -> None:
        self._http = http
        self._base = f"{api_url}/api/v1/streams/{stream_id}"
        self._began = time.monotonic()
        self._grew = self._began
        self._size = 0
        self._after = -1
        self.arrived = arrived
        self.first_output_s: float | None = None
        self.status: Mapping[str, Any] = {}

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    @property
    def quiet_s(self) -> float:
        return time.monotonic() - self._grew

    async def await_first_picture(self, platform: ThirdParty) -> None:
        """Notes when the third party got its first key frame: by its own count of bytes, for a reader comes later."""
        async with contextlib.aclosing(RelayClient(platform.api_url, platform.url)) as relay:
            while self.first_output_s is None:
                await asyncio.sleep(_ARRIVAL_POLL_S)
                with contextlib.suppress(MediaServerError):
                    if any(path.bytes_in > _KEY_FRAME_BYTES for path in await relay.list_paths()):
                        self.first_output_s = self.elapsed_s

    async def poll(self, progress: Progress) -> None:
        size = self.arrived.bytes_recorded
        if size > self._size:
            self._size, self._grew = size, time.monotonic()
        stream = await self._get("")
        shown: Mapping[str, Any] = {}
        if isinstance(stream, dict) and stream.get("status"):
            shown = stream["status"]
            # after the source's end a worker may count on: the figures are those of the last live moment
            if shown.get("state") == "live" or not self.status:
                self.status = shown
        found = await self._get(f"/segments?after={self._after}")
        segments = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
        self._after = max([self._after, *(int(item["sequence"]) for item in segments)])
        progress.update(self.elapsed_s, shown or self.status, segments, size)

    async def _get(self, path: str) -> object:
        """The JSON, or None while the API has nothing to say (the worker is not there yet, or no longer)."""
        try:
            async with self._http.get(self._base + path) as answer:
                return await answer.json() if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None


def _inputs(app: RunningApp, options: DemoOptions, original: Path, dubbed: Path, watch: _Watch) -> measure.Inputs:
    status = watch.status
    targets = [item for item in status.get("targets", []) if item.get("language") == options.target_language]
    return measure.Inputs(
        original=original,
        dubbed=dubbed,
        clip=options.clip,
        entries=measure.read_journal(options.journal),
        media_server=app.media_server,
        backend=options.backend,
        source_language=options.source_language,
        target_language=options.target_language,
        delay_s=float(status.get("delay_s", options.delay_s)),
        fallback_seconds=targets[0].get("fallback_seconds") if targets else None,
        first_output_s=watch.first_output_s,
    )


async def _write(options: DemoOptions, result: Report, evidence: Evidence) -> None:
    """Everything that the folder holds in the end."""
    texts = caption_texts(result)
    for language, text in texts.items():
        (options.folder / f"captions.{language}.vtt").write_text(text, "utf-8")
    measure.write_json(options.folder / "report.json", result)
    await asyncio.gather(
        finish_mp4(evidence.original, options.folder / "original.mp4"),
        finish_mp4(evidence.dubbed, options.folder / "dubbed.mp4"),
        asyncio.to_thread(report.write_report, options.folder / "report.html", result, evidence, texts),
    )


def caption_texts(result: Report) -> dict[str, str]:
    """WebVTT by language, on the dubbed recording's clock: what is said at its pictures, the dub where it is heard."""
    heard = []
    for row in result.segments:
        at = row.found_s if row.found_s is not None else row.placed_s
        if at is not None:
            heard.append(Cue(at, at + row.duration_s, row.translation))
    said = [
        Cue(row.source_start_s, row.source_end_s, row.transcript[:1].upper() + row.transcript[1:])
        for row in result.segments
    ]
    return {result.source_language: vtt(said), result.target_language: vtt(heard)}
