"""A made programme: pictures and sound as FLV tags whose every byte is known, published as fast as a test likes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from babelcast.rtmp import amf0
from babelcast.rtmp.client import RtmpClient
from babelcast.rtmp.message import Message, MessageType

FRAME_MS = 40
GOP = 10

METADATA = amf0.encode("onMetaData", amf0.EcmaArray(videocodecid=7, audiocodecid=10))
# An AVCDecoderConfigurationRecord (640x360) and an AudioSpecificConfig (AAC-LC, 48 kHz, stereo).
VIDEO_HEADER = bytes.fromhex("17000000000142c01effe1000a6742c01eda0280bfe54001000468ce3c80")
AUDIO_HEADER = bytes.fromhex("af001190")


def headers(timestamp: int = 0) -> list[Message]:
    return [
        Message(MessageType.DATA, timestamp, METADATA),
        Message(MessageType.VIDEO, timestamp, VIDEO_HEADER),
        Message(MessageType.AUDIO, timestamp, AUDIO_HEADER),
    ]


def picture(number: int, timestamp: int, size: int = 200) -> Message:
    """Every tenth is a key frame. The payload tells the number."""
    head = bytes((0x17 if number % GOP == 0 else 0x27, 1, 0, 0, 0))
    return Message(MessageType.VIDEO, timestamp, head + number.to_bytes(4, "big") + bytes(size))


def sound(number: int, timestamp: int) -> Message:
    return Message(MessageType.AUDIO, timestamp, bytes((0xAF, 1)) + number.to_bytes(4, "big") + bytes(100))


def number_of(message: Message) -> int:
    """Which picture or sound this is."""
    at = 5 if message.type == MessageType.VIDEO else 2
    return int.from_bytes(message.payload[at : at + 4], "big")


def frames(count: int, *, first: int = 0, base_ms: int = 0, size: int = 200) -> Iterator[Message]:
    """``count`` pictures, each followed by its sound."""
    for number in range(first, first + count):
        timestamp = (base_ms + (number - first) * FRAME_MS) % 2**32
        yield picture(number, timestamp, size)
        yield sound(number, timestamp + 1)


async def publish(
    url: str, count: int, *, first: int = 0, base_ms: int = 0, size: int = 200, pace_s: float = 0.01
) -> None:
    """Publish ``count`` pictures with their sound, one every ``pace_s``, and go."""
    async with RtmpClient.connect(url) as client:
        await client.publish()
        for header in headers(base_ms % 2**32):
            await client.send(header)
        for message in frames(count, first=first, base_ms=base_ms, size=size):
            await client.send(message)
            if message.type == MessageType.AUDIO:
                await asyncio.sleep(pace_s)
