"""What a source sends, as far as viewers get it: sound that is sound, and nothing that breaks the rest."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from babelcast.preview.channel import Channel
from babelcast.preview.fanout import Queue, Sound
from babelcast.preview.media import Picture
from babelcast.rtmp.message import Message, MessageType
from babelcast.slate.silence import silence_aac
from tests.preview.test_media import body, record

pytestmark = pytest.mark.integration  # ffmpeg makes the sound

_IDR, _P = b"\x65" + bytes(40), b"\x41" + bytes(20)


async def _messages(seconds: float) -> list[Message]:
    """Headers, then 25 pictures and 47 frames of silence a second, in the order of their times."""
    silence = await silence_aac()
    found = [
        Message(MessageType.VIDEO, 0, b"\x17\0\0\0\0" + record()),
        Message(MessageType.AUDIO, 0, b"\xaf\0" + silence.config),
    ]
    for n in range(int(seconds * 25)):
        unit = _P if n % 25 else _IDR
        found.append(Message(MessageType.VIDEO, n * 40, body(unit, key=n % 25 == 0)))
    found += [Message(MessageType.AUDIO, n * 64 // 3, b"\xaf\1" + silence.frame) for n in range(int(seconds * 47))]
    return sorted(found, key=lambda message: message.timestamp)


async def _shown(channel: Channel, messages: list[Message]) -> tuple[list[Picture], list[Sound]]:
    pictures, sound = Queue(10_000), Queue(10_000)
    channel.join(pictures, sound)
    for message in messages:
        channel.take(message)
    found: tuple[list[Picture], list[Sound]] = ([], [])
    for queue in (pictures, sound):
        with pytest.raises(TimeoutError):
            while True:
                item = await asyncio.wait_for(queue.get(), 0.01)
                if isinstance(item, Picture):
                    found[0].append(item)
                elif isinstance(item, Sound):
                    found[1].append(item)
    return found


async def test_pictures_and_sound_pass() -> None:
    channel = Channel("rtmp://127.0.0.1:1/live/show/in")
    pictures, sound = await _shown(channel, await _messages(2.0))
    assert (channel.state, channel.pictures, channel.sound) == ("live", "passthrough", True)
    assert [each.pts_ms for each in pictures] == [n * 40 for n in range(50)]
    steps = {after.pts - before.pts for before, after in itertools.pairwise(sound)}
    assert steps == {960}, "no gap and no overlap, although FLV counts milliseconds"
    assert 1.85 < len(sound) * 0.02 < 2.05


async def test_what_is_broken_is_skipped() -> None:
    random.seed(5)
    channel = Channel("rtmp://127.0.0.1:1/live/show/in")
    good = await _messages(3.0)
    for message in good:
        bad = bytearray(message.payload)
        for _ in range(random.randrange(1, 6)):
            bad[random.randrange(len(bad))] = random.randrange(256)
        for payload in (bytes(bad), message.payload[: random.randrange(4)], b""):
            channel.take(message._replace(payload=payload))
    for kind in (MessageType.DATA, MessageType.COMMAND, 99):
        channel.take(Message(kind, 0, b"\x02\0\x01x"))
    again = Channel("rtmp://127.0.0.1:1/live/show/in")
    pictures, sound = await _shown(again, [*(Message(9, 0, b"\x17\1"), Message(8, 0, b"\xaf\1")), *good])
    assert len(pictures) == 75 and len(sound) > 140


async def test_other_codecs_are_named() -> None:
    channel = Channel("rtmp://127.0.0.1:1/live/show/in")
    channel.take(Message(MessageType.VIDEO, 0, b"\x90hvc1" + bytes(20)))
    assert (channel.state, channel.pictures) == ("live", "unsupported")
    assert channel.error == "the pictures are H265; the preview can show H.264"
