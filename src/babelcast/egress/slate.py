"""What a destination gets while the programme is away: a still picture and silence. Pure.

The destination's session and its timeline go on. The slate begins with codec headers of its own, where the programme
stopped, and keeps up with the wall clock; the programme comes back at a key frame, with its headers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from babelcast.egress.rebase import Rebase
from babelcast.errors import RtmpError
from babelcast.rtmp import amf0
from babelcast.rtmp.avc import avc_format
from babelcast.rtmp.flv import inspect_audio, inspect_video
from babelcast.rtmp.message import Message, MessageType
from babelcast.slate.picture import Slate
from babelcast.slate.silence import FRAME_SAMPLES, RATE, SilenceAac

MAX_BEHIND_MS = 2_000
"""A destination that takes the slate later than this misses what is older: it goes on at the live edge."""
DEFAULT_FRAME_RATE = 25.0
_AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
_AAC_LC = 2


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """For which a slate is made."""

    width: int
    height: int
    frame_rate: float


def picture_format(headers: tuple[Message, ...]) -> PictureFormat | None:
    """The programme's, by its codec header and its metadata; None where its pictures are not H.264."""
    records = (record for message in headers if (record := _avc_record(message)) is not None)
    found = next((found for record in records if (found := avc_format(record))), None)
    if found is None:
        return None
    rate = _metadata_rate(headers) or found.frame_rate or DEFAULT_FRAME_RATE
    return PictureFormat(found.width, found.height, round(min(max(rate, 1.0), 60.0), 3))


def _avc_record(message: Message) -> bytes | None:
    if message.type != MessageType.VIDEO:
        return None
    tag = inspect_video(message.payload)
    return message.payload[tag.config_at :] if tag.codec == "H264" and tag.config_at is not None else None


def _metadata_rate(headers: tuple[Message, ...]) -> float | None:
    for message in headers:
        if message.type == MessageType.DATA:
            try:
                values = amf0.decode(message.payload)
            except RtmpError:
                continue
            found = next((value for value in values if isinstance(value, dict)), {})
            rate = found.get("framerate")
            return rate if isinstance(rate, float) and 1 <= rate <= 240 else None
    return None


@dataclass(frozen=True, slots=True)
class _Sound:
    """Silence as the programme's codec header has it, where that can be; else with a header of its own."""

    header: Message
    frame: bytes
    rate: int
    is_new: bool


def _sound(headers: tuple[Message, ...], silence: SilenceAac) -> _Sound | None:
    """None where the programme has no sound, or sound that is not AAC: nothing is sent then."""
    header = next((message for message in headers if message.type == MessageType.AUDIO), None)
    if header is None or inspect_audio(header.payload).codec != "MPEG-4 Audio":
        return None
    frame = b"\xaf\x01" + silence.frame
    config = header.payload[2:]
    if header.payload[0] >> 4 == 10 and len(config) == 2 and config[0] >> 3 == _AAC_LC and (config[1] >> 3) & 15 == 2:
        index = (config[0] & 7) << 1 | config[1] >> 7
        if index < len(_AAC_RATES):
            # a silent frame is the same at every rate, so the decoder need not begin anew
            return _Sound(header, frame, _AAC_RATES[index], is_new=False)
    return _Sound(Message(MessageType.AUDIO, 0, b"\xaf\x00" + silence.config), frame, RATE, is_new=True)


class SlatePlayer:
    """One showing of ``slate`` into the timeline ``rebase``, after a programme with these ``headers``.

    Times are in ms: ``now_ms`` by the clock by which the programme's items arrive.
    """

    def __init__(
        self, slate: Slate, silence: SilenceAac, headers: tuple[Message, ...], rebase: Rebase, now_ms: int
    ) -> None:
        self._slate = slate
        self._sound = _sound(headers, silence)
        self._rebase = rebase
        self._metadata = tuple(message for message in headers if message.type == MessageType.DATA)
        self._now_ms, self._now_out = now_ms, rebase.now(now_ms)
        pictures, sounds = rebase.end_of(MessageType.VIDEO), rebase.end_of(MessageType.AUDIO)
        # after the last of each track, so that neither has a hole
        self._video_out = self._now_out if pictures is None else pictures + self._frame_ms()
        self._audio_out = self._now_out if sounds is None else sounds + self._sound_ms(1)
        self._pictures = self._sounds = 0

    def headers(self, *, whole: bool) -> list[Message]:
        """What the decoder must have first. ``whole``: of a session that has had nothing yet."""
        picture = Message(MessageType.VIDEO, 0, b"\x17\x00\x00\x00\x00" + self._slate.avcc)
        found = [*(self._metadata if whole else ()), picture]
        if self._sound is not None and (whole or self._sound.is_new):
            found.append(self._sound.header)
        at = {MessageType.AUDIO: self._audio_out}
        return [message._replace(timestamp=at.get(MessageType(message.type), self._video_out)) for message in found]

    def due(self, now_ms: int) -> Iterator[Message]:
        """What is to be sent by now, in order."""
        until = self._now_out + now_ms - self._now_ms
        self._skip(until)
        while True:
            picture_out, sound_out = self._next_picture(), self._next_sound()
            if sound_out is not None and sound_out <= picture_out and sound_out <= until:
                assert self._sound is not None
                yield Message(MessageType.AUDIO, self._made(MessageType.AUDIO, sound_out), self._sound.frame)
                self._sounds += 1
            elif picture_out <= until:
                unit = self._slate.unit(self._pictures)
                head = (b"\x17" if unit.key else b"\x27") + b"\x01\x00\x00\x00"
                yield Message(MessageType.VIDEO, self._made(MessageType.VIDEO, picture_out), head + unit.data)
                self._pictures += 1
            else:
                return

    def wait_s(self, now_ms: int) -> float:
        """Until something is due."""
        sound_out = self._next_sound()
        next_out = self._next_picture() if sound_out is None else min(self._next_picture(), sound_out)
        return max(0.0, (next_out - self._now_out + self._now_ms - now_ms) / 1_000)

    def _made(self, kind: int, out: int) -> int:
        return self._rebase.made(kind, out, self._now_ms + out - self._now_out)

    def _skip(self, until: int) -> None:
        """Pictures begin with a key frame again."""
        if min(self._next_picture(), self._next_sound() or until) < until - MAX_BEHIND_MS:
            self._video_out, self._audio_out = until, until
            self._pictures = self._sounds = 0

    def _next_picture(self) -> int:
        return self._video_out + self._slate.time_ns(self._pictures) // 1_000_000

    def _next_sound(self) -> int | None:
        return self._audio_out + self._sound_ms(self._sounds) if self._sound else None

    def _frame_ms(self) -> int:
        return round(self._slate.frame_duration_ns / 1_000_000)

    def _sound_ms(self, count: int) -> int:
        rate = self._sound.rate if self._sound else RATE
        return count * FRAME_SAMPLES * 1_000 // rate
