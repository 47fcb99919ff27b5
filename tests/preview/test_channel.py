"""What a source sends, as far as viewers get it: sound that is sound, and nothing that breaks the rest."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from babelcast.preview.channel import Channel
from babelcast.preview.fanout import Queue, Sound
from babelcast.preview.media import Picture
from babelcast.preview.reencode import Reencoder, tag
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


class FakeEncoders:
    """In the place of Reencoder: which encoders were begun, what they got, and which are over."""

    def __init__(self) -> None:
        self.begun = 0
        self.over = 0
        self.fed: list[Message] = []

    @contextlib.asynccontextmanager
    async def running(self, take: object) -> AsyncIterator[tuple[FakeEncoders, asyncio.Future[str]]]:
        self.begun += 1
        try:
            yield self, asyncio.get_running_loop().create_future()
        finally:
            self.over += 1

    def feed(self, message: Message, *, key: bool, header: bool) -> None:
        self.fed.append(message)


def _with_b_frames() -> list[Message]:
    shown = [0, 160, 80, 120]  # I P B B, in the order in which they are decoded
    return [
        Message(MessageType.VIDEO, n * 40, body(_P if n else _IDR, key=n == 0, shift=at + 80 - n * 40))
        for n, at in enumerate(shown)
    ]


@pytest.mark.parametrize(
    ("profile", "b_frames", "begun", "over"),
    [(100, True, (1, 1), 0), (100, False, (1, 1), 1), (66, True, (0, 1), 0), (66, False, (0, 0), 0)],
)
async def test_the_encoder_is_there_before_the_first_picture_where_it_may_be_needed(
    profile: int, b_frames: bool, begun: tuple[int, int], over: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders = FakeEncoders()
    monkeypatch.setattr("babelcast.preview.channel.Reencoder", encoders)
    channel = Channel("rtmp://127.0.0.1:1/live/show/in")
    encoding = asyncio.create_task(channel._encode())
    header = bytearray(record())
    header[1] = profile
    channel.take(Message(MessageType.VIDEO, 0, b"\x17\0\0\0\0" + bytes(header)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert encoders.begun == begun[0], "while the first key picture is waited for"
    pictures = _with_b_frames() if b_frames else (await _messages(0.3))[1:]
    for message in pictures:
        channel.take(message)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (encoders.begun, encoders.over) == (begun[1], over)
    assert channel.pictures == ("reencoded" if b_frames else "passthrough")
    assert encoders.fed[1:] == (pictures if b_frames else []), "after the header, from the key picture on"
    encoding.cancel()
    await asyncio.gather(encoding, return_exceptions=True)
    assert encoders.over == encoders.begun


async def test_an_encoder_that_says_much_goes_on_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ffmpeg does of pictures that are broken."""
    picture, shown = Message(MessageType.VIDEO, 40, b"a picture"), asyncio.Queue[Message]()
    (tmp_path / "flv").write_bytes(b"FLV\1\1\0\0\0\x09\0\0\0\0" + tag(picture))
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\nhead -c 1000000 /dev/zero >&2\ncat {tmp_path}/flv\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    async with asyncio.timeout(10):
        async with Reencoder.running(shown.put_nowait):
            assert await shown.get() == picture
