"""The operator's page over a programme that is not there: scripted states, for work on its looks and for its tests.

``python -m tests.fakes.console_server SCENE [--port N] [--token T]``; the scenes are :data:`SCENES`. What makes the
page, its feed and its alarms is real; what is faked is where the facts come from, and the routes that change them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from pydantic import SecretStr

from babelcast.bridge.status import (
    Alert,
    BridgeStatus,
    EncoderStatus,
    SoundStatus,
    SourceStatus,
    health,
)
from babelcast.console.assets import load_assets
from babelcast.console.routes import console_router
from babelcast.console.state import publish_address
from babelcast.console.watch import Watch
from babelcast.egress.status import DestinationState, DestinationStatus
from babelcast.errors import ControlsError
from babelcast.media_server.base import PathInfo
from babelcast.orchestrator import problems
from babelcast.orchestrator.bridge import BridgeView
from babelcast.orchestrator.http_server import serving
from babelcast.orchestrator.login import Login, session_router, who
from babelcast.orchestrator.store import EventKind
from babelcast.orchestrator.views import EventView, HealthView, StreamView, UrlsView, WorkerView
from babelcast.spec import (
    BreakerStatus,
    Controls,
    ControlsPatch,
    Levels,
    SegmentEntry,
    TargetStatus,
    WorkerStatus,
    revision_of,
)

SENTENCES = [
    ("Good evening everyone, and welcome to the stadium.", "Buenas tardes a todos y bienvenidos al estadio."),
    ("The home team starts from left to right in white.", "El equipo local empieza de izquierda a derecha, de blanco."),
    ("What a save! The goalkeeper gets a hand to it.", "¡Qué parada! El portero llega con la mano."),
    ("There is a corner now for the visitors.", "Ahora hay un saque de esquina para los visitantes."),
    (
        "They have had most of the ball in the last ten minutes.",
        "Han tenido el balón casi siempre en los últimos diez.",
    ),
    ("<b>Forty</b> minutes played, still nil–nil.", "Cuarenta minutos jugados, seguimos cero a cero."),
]


class FakeStream:
    """One stream; a scene sets its attributes."""

    def __init__(self, stream_id: str, languages: tuple[str, ...] = ("es",)) -> None:
        self.id = stream_id
        self.languages = languages
        self.source_language = "en"
        self.answers = True
        self.on_air = True
        self.gone_at: float | None = None
        self.began = time.time() - 754
        self.flows = True
        self.controls = Controls()
        self.state: Any = "running"
        self.last_error: str | None = None
        self.audio: str | None = "AAC 48000 Hz stereo"
        self.video: str | None = "H.264 high 1920x1080 30/1"
        self.loud = True
        self.fallback: Any = None
        self.cause: Any = None
        self.backend_state: Any = "open"
        self.breaker = BreakerStatus(backend="sts")
        self.lag_s = 2.6
        self.cost: float | None = None
        self.destinations: dict[str, tuple[DestinationState, str | None]] = {}
        self.enabled: dict[str, bool] = {}
        self.said = 40
        self.first_said = 0
        self.spoken = True
        self.delay_now: float | None = None
        self.loss: Any = None

    @property
    def published_s(self) -> float:
        return max(0.0, time.time() - self.began - self.controls.delay_s) if self.on_air else 0.0

    def levels(self) -> dict[str, Levels]:
        now = time.time()
        beat = abs(math.sin(now * 2.1)) * abs(math.sin(now * 0.7 + 1))
        noise = random.uniform(-1.5, 1.5)
        source = -18 - 14 * (1 - beat) + noise if self.loud else -96.0
        background = -31 + 3 * math.sin(now * 0.5) + noise
        forced = self.controls.force or self.fallback
        dub = -120.0 if forced == "original" else -20 - 25 * (1 - abs(math.sin(now * 1.7)))
        output = source if forced == "original" else max(dub, background) + 1
        return {code: Levels(source=source, background=background, dub=dub, output=output) for code in self.languages}

    def target(self, language: str) -> TargetStatus:
        forced = self.controls.force
        return TargetStatus(
            language=language,
            output_state="live" if self.published_s > 0 else "connecting",
            backend_state=self.backend_state,
            fallback=forced or self.fallback,
            fallback_seconds=12.4,
            segments=self.said,
            dropped_segments=1 if self.said > 5 else 0,
            dub_lag_s=self.lag_s + 0.3 * math.sin(time.time() / 7) if self.said else None,
            dub_offset_s=0.18 + 0.1 * math.sin(time.time() / 5) if self.said else None,
            published_seconds=self.published_s,
            last_error=self.last_error,
            fallback_cause="operator" if forced else self.cause,
            levels=self.levels()[language],
            breakers=(self.breaker,),
            backend=self.breaker.backend if self.backend_state == "open" else None,
            cost=self.cost,
        )

    def status(self) -> WorkerStatus | None:
        if self.state != "running" or not self.answers or not (self.on_air or self.gone_at):
            return None
        return WorkerStatus(
            stream_id=self.id,
            generation=3,
            state="reconnecting" if self.gone_at else "live",
            delay_s=self.delay_now or self.controls.delay_s,
            separation="neural",
            source_seconds=time.time() - self.began,
            av_sync_delta_ms=4 + 3 * math.sin(time.time() / 9),
            video_caps=self.video,
            audio_caps=self.audio,
            warnings=(),
            last_error=self.last_error,
            targets=tuple(self.target(language) for language in self.languages),
            controls=self.controls,
            source_loss="slate" if self.gone_at else self.loss,
        )

    def view(self) -> StreamView:
        gone = self.gone_at is not None
        return StreamView(
            id=self.id,
            state=self.state if self.on_air or gone else "offline",
            online=self.on_air and not gone,
            source_gone_s=time.time() - self.gone_at if self.gone_at else None,
            source_language=self.source_language,
            target_languages=self.languages,
            urls=UrlsView(publish=f"rtmp://127.0.0.1:1935/live/{self.id}/in", watch={}),
            worker=WorkerView(
                state="running" if self.on_air else None,
                generation=3,
                pid=4242,
                resident_bytes=141 << 20,
                failures=0,
                retry_in_s=None,
            ),
            controls=self.controls,
            status=self.status(),
            destinations=[self._destination(name) for name in self.destinations],
            warnings=(),
            last_error=self.last_error,
        )

    def _destination(self, name: str) -> DestinationStatus:
        state, error = self.destinations[name]
        enabled = self.enabled.get(name, True)
        shown: DestinationState = state if enabled and self.on_air else "idle" if enabled else "stopped"
        return DestinationStatus(
            stream_id=self.id,
            name=name,
            url=f"rtmps://a.rtmp.{name}.example/live2",
            enabled=enabled,
            state=shown,
            since=datetime.now(UTC) - timedelta(seconds=600),
            connected_since=datetime.now(UTC) - timedelta(seconds=600) if shown == "live" else None,
            bytes_sent=500_000_000,
            bitrate_kbps=5_940.0 if shown == "live" else 0.0,
            reconnects=1 if name == "twitch" else 0,
            dropped_tags=0,
            last_error=error,
            last_error_at=None,
        )

    def segments(self, after: int) -> list[SegmentEntry]:
        every = 4.0
        count = int((time.time() - self.began) / every) + 1 if self.said and self.spoken else 0
        return [self._segment(n, every) for n in range(max(after + 1, count - 60), count)]

    def _segment(self, n: int, every: float) -> SegmentEntry:
        source, dub = SENTENCES[n % len(SENTENCES)]
        start = int(n * every * 1e9)
        return SegmentEntry(
            sequence=n,
            segment_id=f"s{n}",
            language=self.languages[0],
            source_start_ns=start,
            source_end_ns=start + 3 * 10**9,
            placed_ns=None if n % 13 == 7 else start,
            duration_ns=3 * 10**9,
            tempo=1.1,
            dub_lag_s=2.6,
            dub_offset_s=0.2,
            transcript=source,
            translation=dub,
            voice="es",
            air_unix_s=self.began + n * every,
        )


class FakeSource:
    """Implements console.watch.Source, with what a scene has put into it."""

    def __init__(self) -> None:
        self.streams: dict[str, FakeStream] = {}
        self.log: list[EventView] = []
        self.media_server_error: str | None = None
        self.bridge_status: BridgeStatus | None = None
        self.bridge_error: str | None = None
        self.began = time.time()

    def add(self, stream: FakeStream) -> FakeStream:
        self.streams[stream.id] = stream
        return stream

    def note(self, kind: EventKind, stream_id: str, detail: str, ago_s: float = 0.0) -> None:
        when = datetime.fromtimestamp(time.time() - ago_s, UTC)
        event = EventView(id=len(self.log) + 1, time=when, kind=kind, stream_id=stream_id, detail=detail)
        self.log.append(event)

    def health(self) -> HealthView:
        error = self.media_server_error
        return HealthView(
            status="degraded" if error else "ok", media_server="mediamtx", media_server_error=error, workers=1
        )

    def paths(self) -> Mapping[str, PathInfo]:
        found = {}
        for stream in self.streams.values():
            if stream.on_air and not stream.gone_at:
                count = int((time.time() - stream.began) * 750_000) if stream.flows else 1000
                for name in (f"live/{stream.id}/in", *self.output_paths(stream.id).values()):
                    found[name] = PathInfo(name, True, "rtmpConn", "1", ("H264", "MPEG-4 Audio"), 1, count, count)
        return found

    def stream_ids(self) -> list[str]:
        return list(self.streams)

    def output_paths(self, stream_id: str) -> Mapping[str, str]:
        languages = self.streams[stream_id].languages if stream_id in self.streams else ()
        return {code: f"live/{stream_id}/out" + (f"/{code}" if len(languages) > 1 else "") for code in languages}

    async def stream(self, stream_id: str) -> StreamView:
        return self.streams[stream_id].view()

    async def levels(self, stream_id: str) -> Mapping[str, Levels] | None:
        stream = self.streams.get(stream_id)
        return stream.levels() if stream and stream.on_air and stream.answers else None

    async def segments(self, stream_id: str, after: int) -> list[SegmentEntry] | None:
        return self.streams[stream_id].segments(after)

    async def events(self, after: int, limit: int) -> list[EventView]:
        return [event for event in self.log if event.id > after][-limit:]

    async def bridge(self) -> BridgeView | None:
        if self.bridge_error is not None:
            raise HTTPException(503, self.bridge_error)
        status = self.bridge_status
        return None if status is None else BridgeView(status=status, health=health(status))


# --- scenes ---


def _live(source: FakeSource) -> FakeStream:
    stream = source.add(FakeStream("my-show"))
    stream.destinations = {"youtube": ("live", None), "twitch": ("live", None)}
    stream.cost = 0.42
    source.note("source_ready", "my-show", "the source is on air", 754)
    source.note("worker_started", "my-show", "generation 3", 753)
    return stream


def newcomer(source: FakeSource) -> None:
    source.add(FakeStream("my-show")).on_air = False


def first_minute(source: FakeSource) -> None:
    stream = _live(source)
    stream.began, stream.said, stream.destinations = time.time() - 4, 0, {}


def live(source: FakeSource) -> None:
    _live(source)


def original(source: FakeSource) -> None:
    stream = _live(source)
    stream.controls = Controls(revision=4, force="original")
    source.note("controls_changed", "my-show", "Ana: force original (revision 4)", 95)


def source_lost(source: FakeSource) -> None:
    _live(source).gone_at = time.time() - 14
    source.note("source_gone", "my-show", "the source went; its worker is kept for 60 s", 14)


def stalled(source: FakeSource) -> None:
    _live(source).flows = False


def speech_dead(source: FakeSource) -> None:
    stream = _live(source)
    stream.fallback, stream.cause, stream.backend_state = "original", "breaker", "retrying"
    stream.last_error = "the speech service at http://10.0.0.7:8090 does not answer: connection refused"
    reason = "5 of 5 calls failed: connection refused"
    stream.breaker = BreakerStatus(backend="sts", state="open", reason=reason, opened=4)


def destination_failing(source: FakeSource) -> None:
    stream = _live(source)
    stream.destinations["twitch"] = ("failed", "the far end refused to take the stream: NetStream.Publish.BadName")
    stream.destinations["facebook"] = ("retrying", "no connection to live-api-s.facebook.example within 10 s")


def several(source: FakeSource) -> None:
    _live(source)
    source.add(FakeStream("press-conference", ("es", "de", "fr"))).controls = Controls(revision=2, force="ducked")
    quiet = source.add(FakeStream("studio-b"))
    quiet.loud = False
    dead = source.add(FakeStream("arena"))
    dead.fallback, dead.cause, dead.backend_state = "background", "closed", "retrying"
    source.add(FakeStream("evening-news")).on_air = False
    bridge(source)


def bridge(source: FakeSource) -> None:
    if not source.streams:
        _live(source)
    source.bridge_status = bridge_status()


def bridge_trouble(source: FakeSource) -> None:
    _live(source)
    alert = Alert(name="source", message="the source is away for 31 s", since=datetime.now(UTC))
    source.bridge_status = bridge_status().model_copy(update={"state": "slate", "alerts": (alert,)})


SCENES: dict[str, Callable[[FakeSource], None]] = {
    made.__name__: made
    for made in (
        newcomer, first_minute, live, original, source_lost, stalled, speech_dead, destination_failing, several,
        bridge, bridge_trouble,
    )
}  # fmt: skip


def bridge_status() -> BridgeStatus:
    now = datetime.now(UTC)

    def destination(name: str, state: DestinationState) -> DestinationStatus:
        return DestinationStatus(
            stream_id="bridge",
            name=name,
            url=f"rtmps://{name}.ingest.example/live",
            enabled=True,
            state=state,
            since=now,
            connected_since=now - timedelta(seconds=3_000),
            bytes_sent=10**9,
            bitrate_kbps=4_210.0,
            reconnects=0,
            dropped_tags=0,
            last_error=None,
            last_error_at=None,
        )

    return BridgeStatus(
        state="live",
        since=now - timedelta(seconds=3_000),
        last_error=None,
        settings_error=None,
        feed_url="rtmp://127.0.0.1:19350/live/bridge/in",
        source=SourceStatus(
            url="srt://venue.example:9000", state="live", since=now, reconnects=1, bitrate_kbps=8_100.0, last_error=None
        ),
        sound=SoundStatus(source="input", state="input", reconnects=0, last_error=None),
        encoder=EncoderStatus(
            name="libx264", fps=29.97, bitrate_kbps=4_210.0, frames=90_000, duplicated=0, dropped=3, speed=1.0
        ),
        destinations=(destination("primary", "live"), destination("backup", "live")),
        alerts=(),
    )


# --- the routes that change something ---


def _routes(source: FakeSource, watch: Watch) -> APIRouter:
    router = APIRouter(prefix="/api/v1")

    def known(stream_id: str) -> FakeStream:
        if stream_id not in source.streams:
            raise HTTPException(404, f"there is no stream {stream_id}")
        return source.streams[stream_id]

    @router.patch("/streams/{stream_id}/controls")
    async def controls(
        stream_id: str,
        patch: ControlsPatch,
        by: Annotated[str, Depends(who)],
        if_match: Annotated[str | None, Header()] = None,
    ) -> Controls:
        stream = known(stream_id)
        await asyncio.sleep(0.05)
        try:
            stream.controls.expect(revision_of(if_match))
            changed = stream.controls.patched(patch)
        except ControlsError as error:
            raise HTTPException(error.status, str(error)) from error
        stream.controls = changed.model_copy(update={"revision": stream.controls.revision + 1})
        what = ", ".join(f"{key} {value}" for key, value in patch.model_dump(exclude_none=True).items())
        source.note("controls_changed", stream_id, f"{by}: {what} (revision {stream.controls.revision})")
        watch.poke(stream_id)
        return stream.controls

    @router.post("/streams/{stream_id}/destinations/{name}/{order}", status_code=202)
    async def destination(stream_id: str, name: str, order: str, by: Annotated[str, Depends(who)]) -> None:
        known(stream_id).enabled[name] = order == "start"
        kind: EventKind = "destination_started" if order == "start" else "destination_stopped"
        source.note(kind, stream_id, f"{by}: {name}")
        watch.poke()

    @router.post("/streams/{stream_id}/restart", status_code=202)
    async def restart(stream_id: str, by: Annotated[str, Depends(who)]) -> None:
        known(stream_id)
        source.note("restart_requested", stream_id, f"{by}: restart")
        watch.poke()

    @router.post("/bridge/{order}")
    async def bridge_order(order: str) -> None:
        if source.bridge_status is None:
            raise HTTPException(404, "no media bridge is configured")
        state = "stopped" if order == "stop" else "live"
        source.bridge_status = source.bridge_status.model_copy(update={"state": state})
        watch.poke()

    return router


@contextlib.asynccontextmanager
async def console_server(
    source: FakeSource, *, token: str | None = None, port: int = 0, page: str | None = None, preview: bool = False
) -> AsyncIterator[tuple[str, Watch]]:
    """Its address. ``page``: the version of the page that it says it has. ``preview``: it says that it has one."""
    app, secret = FastAPI(), SecretStr(token) if token else None
    assets = load_assets()
    server = {
        "version": "0",
        "page": page or assets.version,
        "login": token is not None,
        "preview": preview,
        "publish": publish_address("rtmp://127.0.0.1:1936/live/my-show/in"),
    }
    watch = Watch(source, server)
    problems.install(app, secret)
    app.include_router(session_router(Login(secret) if secret else None))
    app.include_router(_routes(source, watch))
    app.include_router(console_router(watch, assets))
    async with watch.running(), serving(app, "127.0.0.1", port) as taken:
        try:
            yield f"http://127.0.0.1:{taken}", watch
        finally:
            watch.close()


async def _main(scene: str, port: int, token: str | None) -> None:
    source = FakeSource()
    SCENES[scene](source)
    async with console_server(source, port=port, token=token) as (url, _):
        print(url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scene", choices=SCENES)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(arguments.scene, arguments.port, arguments.token))
