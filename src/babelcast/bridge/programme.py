"""The programme: the source's pictures where there are any, else a slate, in one stream that never ends.

Two encoders may run at a time, one for the source and one for the slate; :class:`Switch` lets one of them through,
from a key frame on, and the timestamps go on. The stream is published to the bridge's own relay, from where each
destination, the preview and others take it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
import textwrap
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from babelcast.bridge import command
from babelcast.bridge.encoder import Ffmpeg, Figures, flv_messages, outcome
from babelcast.bridge.settings import BridgeSettings, is_file, listens
from babelcast.bridge.silence import SilenceFill
from babelcast.bridge.sound import Sound
from babelcast.egress.feed import Feed
from babelcast.egress.rebase import Rebase
from babelcast.errors import BabelcastError, IngestError, RtmpError
from babelcast.rtmp.client import RtmpClient
from babelcast.rtmp.flv import inspect_audio, inspect_video
from babelcast.rtmp.message import Message, MessageType
from babelcast.slate.silence import SilenceAac
from babelcast.worker.backoff import Backoff

log = logging.getLogger(__name__)

SourceState = Literal["connecting", "live", "lost", "off"]
Notify = Callable[[str, dict[str, object]], None]
_LOOK_S = 0.1
_AGAIN_S = 1.0
_STEADY_S = 20.0
_WINDOW_S = 4.0


class Switch:
    """Lets ``source`` through from its first key frame on, else ``slate``. Pure."""

    def __init__(self, feed: Feed) -> None:
        self.active: command.Video | None = None
        self._feed = feed
        self._headers: dict[command.Video, dict[int, Message]] = {"source": {}, "slate": {}}

    def put(self, name: command.Video, message: Message, now_ms: int) -> bool:
        """True where the message is part of the programme."""
        video = message.type == MessageType.VIDEO
        tag = inspect_video(message.payload) if video else inspect_audio(message.payload)
        if message.type == MessageType.DATA or tag.header:
            self._headers[name][message.type] = message
        elif video and tag.key and self.active != name and (name == "source" or self.active is None):
            self.active = name
            self._feed.begin_session()
            for header in self._headers[name].values():
                self._feed.put(header, now_ms)
        if self.active != name:
            return False
        self._feed.put(message, now_ms)
        return True

    def release(self, name: command.Video) -> None:
        """Its encoder has ended."""
        self._headers[name].clear()
        if self.active == name:
            self.active = None


class Rate:
    """Amounts a second over the last few seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, float]] = deque()

    def add(self, amount: float) -> None:
        self._seen.append((self._clock(), amount))
        self._forget()

    def _forget(self) -> None:
        until = self._clock() - _WINDOW_S
        while self._seen and self._seen[0][0] < until:
            self._seen.popleft()

    def value(self) -> float:
        self._forget()
        return sum(amount for _, amount in self._seen) / _WINDOW_S


class Programme:
    """``run()`` until cancelled. Nothing that a source, an encoder or the relay does ends it."""

    def __init__(
        self,
        settings: BridgeSettings,
        encoder: str,
        sound: Sound,
        silence: SilenceAac,
        publish_url: str,
        notify: Notify,
    ) -> None:
        self.source_state: SourceState = "connecting" if settings.source_url else "off"
        self.source_since = datetime.now(UTC)
        self.source_error: str | None = None
        self.source_reconnects = 0
        self.published = False
        """Whether the relay has it; no longer from the moment in which it is told to end."""
        self.fps, self.bytes_out, self.bytes_in = Rate(), Rate(), Rate()
        self._settings = settings
        self._encoder = encoder
        self._sound = sound
        self._url = publish_url
        self._notify = notify
        self._feed = Feed()
        self.switch = Switch(self._feed)
        self._silence = silence
        self._fill: SilenceFill | None = None
        self._figures: Figures | None = None
        self._past = Figures()
        self._video_at: dict[command.Video, float | None] = {}
        self._away = asyncio.Event()
        self._away.set()
        self._back = asyncio.Event()

    @property
    def no_sound(self) -> bool:
        """The source has none now, so there is silence in its place."""
        return self._fill is not None and self._fill.active

    @property
    def figures(self) -> Figures:
        """Over all runs of the source's encoder."""
        now = self._figures or Figures()
        return Figures(
            self._past.frames + now.frames,
            self._past.duplicated + now.duplicated,
            self._past.dropped + now.dropped,
            now.speed,
            self._past.bytes_in + now.bytes_in,
        )

    async def run(self) -> None:
        while True:
            try:
                await self._all()
            except Exception as error:
                log.exception("a fault of ours ended the programme; it begins again")
                self.source_error = f"internal error: {type(error).__name__}"
            await asyncio.sleep(_AGAIN_S)

    async def _all(self) -> None:
        self._leave()
        with tempfile.TemporaryDirectory(prefix="babelcast-bridge-") as name:
            text_file = self._text_file(Path(name))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._publish_forever(), name="bridge publisher")
                if self._settings.source_url is not None:
                    group.create_task(self._source_forever(), name="bridge source")
                    group.create_task(self._count(), name="bridge counter")
                if self._settings.slate == "on":
                    group.create_task(self._slate_forever(text_file), name="bridge slate")

    def _text_file(self, folder: Path) -> str:
        text = "\n".join(textwrap.wrap(self._settings.slate_text, 36))
        if not text:
            return ""
        file = folder / "slate.txt"
        file.write_text(text, encoding="utf-8")
        return str(file)

    # the source

    async def _source_forever(self) -> None:
        backoff = Backoff(first_s=self._settings.backoff_first, most_s=self._settings.backoff_max)
        while True:
            begun = time.monotonic()
            self._enter("connecting")
            error = await self._source_once()
            self.source_error = str(error)
            self._leave()
            if time.monotonic() - begun > _STEADY_S:
                backoff.reset()
            self._enter("lost")
            wait_s = backoff.next_s()
            log.warning("no source: %s; next attempt in %.1f s", error, wait_s)
            await asyncio.sleep(wait_s)
            self.source_reconnects += 1

    def _leave(self) -> None:
        """The source is off the air: the slate is wanted."""
        self.switch.release("source")
        self._away.set()
        self._back.clear()

    async def _source_once(self) -> BabelcastError:
        """Why it ended."""
        settings = self._settings
        assert settings.source_url is not None
        address = settings.source_url.get_secret_value()
        own = settings.audio_source.get_secret_value() == "input"
        how: command.Sound = "input" if own else "pipe"
        with contextlib.ExitStack() as stack:
            sound = 0 if own else stack.enter_context(self._sound.pipe())
            ffmpeg = Ffmpeg(
                lambda pipes: command.programme(settings, self._encoder, "source", how, pipes),
                playlist=None if is_file(address) else command.playlist(address),
                sound=sound,
                count=True,
            )
            self._figures = ffmpeg.figures
            try:
                return await self._encode("source", ffmpeg, waits=listens(address))
            finally:
                self._past, self._figures = self.figures, None

    async def _encode(self, name: command.Video, ffmpeg: Ffmpeg, *, waits: bool) -> BabelcastError:
        """Until it ends, hangs, or (unless it ``waits`` to be called) does not begin. Why."""
        self._video_at[name] = None
        begun = time.monotonic()
        task = asyncio.create_task(outcome(ffmpeg.run(lambda out: self._receive(name, out))))
        try:
            while True:
                await asyncio.wait({task}, timeout=_LOOK_S)
                if task.done():
                    return task.result()
                now, seen = time.monotonic(), self._video_at[name]
                if seen is not None and now - seen > self._settings.source_timeout:
                    return IngestError(f"no picture from the {name} for {self._settings.source_timeout:g} s")
                if seen is None and not waits and now - begun > self._settings.connect_timeout:
                    return IngestError(f"nothing from the {name} within {self._settings.connect_timeout:g} s")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _receive(self, name: command.Video, reader: asyncio.StreamReader) -> None:
        fill = SilenceFill(self._silence) if name == "source" else None
        self._fill = fill or self._fill
        async for tag in flv_messages(reader):
            for message in fill.put(tag) if fill else (tag,):
                self._take(name, message)

    def _take(self, name: command.Video, message: Message) -> None:
        now = time.monotonic()
        was = self.switch.active
        on_air = self.switch.put(name, message, int(now * 1_000))
        if message.type == MessageType.VIDEO:
            self._video_at[name] = now
        if on_air:
            self.bytes_out.add(len(message.payload))
            if message.type == MessageType.VIDEO:
                self.fps.add(1)
        if self.switch.active != was:
            self._switched(name)

    def _switched(self, name: command.Video) -> None:
        if name == "source":
            self.source_error = None
            self._enter("live")
            self._away.clear()
            self._back.set()
        log.info("on air: the %s", name)
        self._notify("on_air", {"picture": name})

    def _enter(self, state: SourceState) -> None:
        if state != self.source_state:
            self.source_since = datetime.now(UTC)
            self._notify("source", {"state": state, "error": self.source_error})
        self.source_state = state

    async def _count(self) -> None:
        seen = 0
        while True:
            await asyncio.sleep(0.5)
            now = self.figures.bytes_in
            self.bytes_in.add(now - seen)
            seen = now

    # the slate

    async def _slate_forever(self, text_file: str) -> None:
        while True:
            await self._away.wait()
            slate = asyncio.create_task(self._slate_once(text_file))
            back = asyncio.create_task(self._back.wait())
            try:
                await asyncio.wait({slate, back}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                slate.cancel()
                back.cancel()
                await asyncio.gather(slate, back, return_exceptions=True)
                self.switch.release("slate")
            # cancelled: the source came back, and may be lost again by now
            if not self._back.is_set() and not slate.cancelled():
                log.warning("the slate's encoder ended: %s", slate.result())
                await asyncio.sleep(_AGAIN_S)

    async def _slate_once(self, text_file: str) -> BabelcastError:
        with self._sound.pipe() as sound:
            ffmpeg = Ffmpeg(
                lambda pipes: command.programme(self._settings, self._encoder, "slate", "pipe", pipes, text_file),
                sound=sound,
            )
            return await self._encode("slate", ffmpeg, waits=False)

    # to the relay

    async def _publish_forever(self) -> None:
        while True:
            try:
                async with RtmpClient.connect(self._url) as client:
                    await client.publish()
                    self._feed.restart()
                    self.published = True
                    await self._publish(client)
            except RtmpError as error:
                log.error("the bridge's own relay: %s", error)
            finally:
                self.published = False
            await asyncio.sleep(0.2)

    async def _publish(self, client: RtmpClient) -> None:
        rebase = Rebase()
        while True:
            item = await self._feed.get()
            timestamp = rebase.restamp(item)
            for header in item.headers if item.start else ():
                await client.send(header._replace(timestamp=timestamp))
            await client.send(item.message._replace(timestamp=timestamp))
