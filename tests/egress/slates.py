"""A slate whose every byte is known, made in no time."""

from __future__ import annotations

from fractions import Fraction

from babelcast.egress.slate import PictureFormat
from babelcast.egress.wire import SlateSpec
from babelcast.errors import PublishError
from babelcast.rtmp.message import Message, MessageType
from babelcast.slate.picture import Slate, SlateUnit
from babelcast.slate.silence import SilenceAac

AVCC = b"\x01MADE-SLATE-RECORD"
SILENCE = SilenceAac(bytes.fromhex("1190"), b"SILENT-FRAME")


def made_slate(frame_rate: int = 25, count: int = 10) -> Slate:
    units = tuple(SlateUnit(b"SLATE" + bytes((number,)), key=number == 0) for number in range(count))
    return Slate("", AVCC, units, 160, 120, Fraction(frame_rate))


def is_slate(message: Message) -> bool:
    """One of its pictures."""
    return message.type == MessageType.VIDEO and message.payload[5:10] == b"SLATE"


def is_slate_header(message: Message) -> bool:
    return message.type == MessageType.VIDEO and message.payload[5:] == AVCC


def is_silence(message: Message) -> bool:
    return message.type == MessageType.AUDIO and message.payload[2:] == SILENCE.frame


class FakeSlates:
    """A SlateMaker. ``fails`` makes it raise."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.wanted: list[tuple[SlateSpec, PictureFormat]] = []

    async def __call__(self, spec: SlateSpec, wanted: PictureFormat) -> tuple[Slate, SilenceAac]:
        self.wanted.append((spec, wanted))
        if self.fails:
            raise PublishError("no ffmpeg here")
        return made_slate(), SILENCE
