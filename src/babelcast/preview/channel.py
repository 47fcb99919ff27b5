"""One path while somebody watches it: played from its server, made fit for WebRTC, handed to the viewers."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from babelcast.errors import BabelcastError
from babelcast.preview.fanout import Fanout, Queue, Sound
from babelcast.preview.media import Picture, PictureReader, Reordering
from babelcast.preview.opus import OpusEncoder
from babelcast.preview.reencode import Reencoder
from babelcast.rtmp.client import RtmpClient
from babelcast.rtmp.flv import inspect_audio, inspect_video
from babelcast.rtmp.message import Message, MessageType
from babelcast.telemetry.redact import redact

log = logging.getLogger(__name__)

State = Literal["connecting", "live", "offline"]
Pictures = Literal["none", "passthrough", "reencoded", "unsupported"]

GRACE_S = 8.0
"""How long a path is still played after its last viewer, so that a page that comes back has a picture at once."""
_TIMEOUT_S = 5.0
_SILENT_S = 10.0
_HELD_SOUND_MS = 1_000
_HELD_SOUNDS = 100
_BASELINE = b"\x42"
"""The H.264 profile that has no B-frames."""


@dataclass(slots=True)
class _Group:
    """The source's video messages since its latest key picture, while it can't be told whether they must be encoded
    again; they are the encoder's start then."""

    messages: list[Message] = field(default_factory=list)
    size: int = 0


class Channel:
    """Lives for one session with the source: when that ends, so do its viewers, and they come again."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.state: State = "connecting"
        self.pictures: Pictures = "none"
        self.sound = False
        self.error: str | None = None
        self.fanout = Fanout()
        self.gone = asyncio.Event()
        """Set when the source is over."""
        self._reader = PictureReader()
        self._encoded_reader = PictureReader()
        self._reordering = Reordering()
        self._config: Message | None = None
        self._held: list[Picture] = []
        self._group = _Group()
        self._opus: OpusEncoder | None = None
        self._encoder: Reencoder | None = None
        self._encoder_likely = asyncio.Event()
        self._encoder_decided = asyncio.Event()
        """Whether it is wanted is known for the first time."""
        self._encoder_wanted = asyncio.Event()
        self._sounds: deque[Sound] = deque()
        self._shown_ms: int | None = None
        """When the latest picture that the encoder gave is shown."""

    async def run(self) -> None:
        """Play the source until it ends or this is cancelled."""
        encoding = asyncio.create_task(self._encode(), name="preview encoding")
        try:
            async with RtmpClient.connect(self.url, timeout_s=_TIMEOUT_S, io_timeout_s=_SILENT_S) as client:
                await client.play()
                async for message in client.messages():
                    self.take(message)
        except BabelcastError as error:
            log.debug("the preview's source can't be played: %s", redact(str(error)))
            self.error = redact(str(error))
        finally:
            self.state = "offline"
            self.gone.set()
            encoding.cancel()
            await asyncio.gather(encoding, return_exceptions=True)

    def join(self, pictures: Queue, sound: Queue | None) -> None:
        self.fanout.join(pictures, sound)

    def take(self, message: Message) -> None:
        """The source's next message. What is broken in it is skipped: it comes from outside."""
        if message.type == MessageType.VIDEO:
            self._take_video(message)
        elif message.type == MessageType.AUDIO:
            self._take_sound(message)

    def _take_video(self, message: Message) -> None:
        tag = inspect_video(message.payload)
        if tag.codec != "H264" or message.payload[0] & 0x80:
            if tag.codec is not None and self.pictures == "none":
                self.pictures = "unsupported"
                self.error = f"the pictures are {tag.codec}; the preview can show H.264"
                self.state = "live"
            return
        if tag.config_at is not None:
            self._config = message
            record = message.payload[tag.config_at :]
            self._reader.configure(record)
            if record[1:2] != _BASELINE and not self._encoder_decided.is_set():
                self._encoder_likely.set()
            if self._encoder is not None:
                self._encoder.feed(message, key=False, header=True)
            return
        if self._encoder is not None:
            self._encoder.feed(message, key=tag.key, header=False)
            return
        picture = self._reader.read(message.payload, message.timestamp)
        if picture is not None:
            self._take_picture(picture, message)

    def _take_picture(self, picture: Picture, message: Message) -> None:
        if self.pictures != "reencoded":
            found = self._reordering.add(picture)
            if found is None:
                self._keep(picture, message)
                self._held.append(picture)
                return
            if not found:
                self._show(picture, message)
                return
            self._begin_encoding()
        self._keep(picture, message)

    def _show(self, picture: Picture, message: Message) -> None:
        """As it came."""
        for each in (*self._held, picture):
            self.fanout.put_picture(each)
        self._held.clear()
        self.pictures, self.state = "passthrough", "live"
        self._encoder_decided.set()
        self._keep(picture, message)

    def _keep(self, picture: Picture, message: Message) -> None:
        """For an encoder that may have to begin in the middle of the group."""
        if picture.key:
            self._group = _Group()
        elif not self._group.messages:
            return
        self._group.messages.append(message)
        self._group.size += len(message.payload)
        if self._group.size > 4 * 1024 * 1024:
            self._group = _Group()  # the encoder will begin with the next key picture

    def _begin_encoding(self) -> None:
        log.info("the pictures have B-frames: they are encoded again for the preview")
        self.pictures = "reencoded"
        self._held.clear()
        self.fanout.new_pictures()
        for each in (self._encoder_likely, self._encoder_decided, self._encoder_wanted):
            each.set()

    async def _encode(self) -> None:
        """An encoder from when it is needed; again when it ends. The first one is begun while the first pictures are
        waited for, so that they need not wait for it."""
        await self._encoder_likely.wait()
        while True:
            await self._run_encoder()
            await self._encoder_wanted.wait()

    async def _run_encoder(self) -> None:
        try:
            async with Reencoder.running(self._take_encoded) as (encoder, ended):
                await self._encoder_decided.wait()
                if not self._encoder_wanted.is_set():
                    return
                for message in (self._config, *self._group.messages):
                    if message is not None:
                        tag = inspect_video(message.payload)
                        encoder.feed(message, key=tag.key, header=tag.header)
                self._group = _Group()
                self._encoder = encoder
                self.error = f"the preview's encoder ended: {await ended}"
        except BabelcastError as error:
            await self._encoder_decided.wait()
            if not self._encoder_wanted.is_set():
                return
            self.error = str(error)
        finally:
            self._encoder = None
        log.warning("%s", self.error)
        self.fanout.new_pictures()
        await asyncio.sleep(2.0)

    def _take_encoded(self, message: Message) -> None:
        tag = inspect_video(message.payload)
        if tag.config_at is not None:
            self._encoded_reader.configure(message.payload[tag.config_at :])
            return
        picture = self._encoded_reader.read(message.payload, message.timestamp)
        if picture is not None:
            self.state, self.error = "live", None
            self._shown_ms = picture.pts_ms
            self.fanout.put_picture(picture)
            self._release_sounds()

    def _take_sound(self, message: Message) -> None:
        tag = inspect_audio(message.payload)
        body = message.payload
        if tag.codec == "MPEG-4 Audio" and not body[0] >> 4 == 9:
            if tag.config_at is not None:
                self._configure_sound(body[tag.config_at :])
                return
            if self._opus is None or not self.fanout.watched:  # nobody hears it
                return
            sounds = self._opus.encode(body[2:], message.timestamp)
        elif tag.codec == "Opus" and not tag.header:
            sounds = [Sound(body[5:], message.timestamp * 48)]
        else:
            return
        self.sound = True
        if self.pictures == "reencoded":
            self._sounds.extend(sounds)
            self._release_sounds()
        else:
            for sound in sounds:
                self.fanout.put_sound(sound)

    def _configure_sound(self, specific_config: bytes) -> None:
        try:
            self._opus = OpusEncoder(specific_config)
        except ValueError as error:
            log.warning("%s", error)
            return
        self.sound = True
        if self._config is None:
            self.state = "live"  # as far as can be told there is sound alone

    def _release_sounds(self) -> None:
        """Sound waits for the pictures that belong to it: a browser takes what comes together for simultaneous."""
        while self._sounds:
            if self._shown_ms is not None:
                ahead_ms = self._sounds[0].pts // 48 - self._shown_ms
                if 0 < ahead_ms < _HELD_SOUND_MS and len(self._sounds) < _HELD_SOUNDS:
                    return
            elif len(self._sounds) < _HELD_SOUNDS:
                return
            self.fanout.put_sound(self._sounds.popleft())
