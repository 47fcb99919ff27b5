"""Silence where a source has no sound, or loses it: silent AAC frames of the same format, along the pictures. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from babelcast.bridge.command import RATE
from babelcast.rtmp.message import Message, MessageType
from babelcast.slate.silence import FRAME_SAMPLES, SilenceAac

LATE_MS = 1_500
"""Sound that is this far behind the pictures is missing; more than ffmpeg holds pictures back to wait for it."""


class SilenceFill:
    """One encoder run's messages in, the same and what is missing out. ``active`` while it fills."""

    def __init__(self, silence: SilenceAac) -> None:
        self.active = False
        self._silence = silence
        self._heading = False
        self._replaced = False
        self._begun = 0
        self._count = 0
        self._end: int | None = None
        """Where the sound ends, in ms."""

    def put(self, message: Message) -> Iterator[Message]:
        if message.type == MessageType.AUDIO:
            if message.payload[1:2] == b"\0":
                self._heading = True
            elif self._replaced and self._end is not None and message.timestamp < self._end:
                self.active = False
                return  # silence was sent in its place
            else:
                self.active = self._replaced = False
                self._end = message.timestamp + round(FRAME_SAMPLES * 1_000 / RATE)
            yield message
            return
        if message.type == MessageType.VIDEO and message.payload[1:2] == b"\1":
            yield from self._fill(message.timestamp)
        yield message

    def _fill(self, now: int) -> Iterator[Message]:
        if not self._heading:  # ffmpeg writes all headers before the first picture: there will be no sound
            self._heading = self.active = self._replaced = True
            self._begun, self._end = now, now
            yield Message(MessageType.AUDIO, now, b"\xaf\x00" + self._silence.config)
        if self._end is None:
            self._end = now
        if not self.active and now - self._end > LATE_MS:
            self.active = self._replaced = True
            self._begun, self._count = self._end, 0
        while self.active and self._end <= now:
            yield Message(MessageType.AUDIO, self._end, b"\xaf\x01" + self._silence.frame)
            self._count += 1
            self._end = self._begun + self._count * FRAME_SAMPLES * 1_000 // RATE
