from __future__ import annotations

import random

import pytest

from babelcast.rtmp.flv import Tag, inspect_audio, inspect_video

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("payload", "tag"),
    [
        (b"\x17\x00\x00\x00\x00\x01", Tag("H264", header=True, config_at=5)),
        (b"\x17\x01\x00\x00\x00x", Tag("H264", key=True)),
        (b"\x27\x01\x00\x00\x00x", Tag("H264")),
        (b"\x17\x02\x00\x00\x00", Tag("H264")),
        (b"\x57\x00", Tag("H264")),
        (b"\x1c\x00\x00\x00\x00\x01", Tag("H265", header=True, config_at=5)),
        (b"\x90hvc1\x01", Tag("H265", header=True, config_at=5)),
        (b"\x91hvc1\x00\x00\x00x", Tag("H265", key=True)),
        (b"\xa3hvc1x", Tag("H265")),
        (b"\x93av01x", Tag("AV1", key=True)),
        (b"\x94hvc1x", Tag("H265", header=True, slot=1000)),
        (b"\x96\x00hvc1\x03x", Tag("H265", header=True, slot=4, config_at=7)),
        (b"\x97\x00\x00\x01av01x", Tag("AV1", key=True)),
        (b"\x90????x", Tag(None, header=True, config_at=5)),
        (b"\x22x", Tag("H263")),
    ],
)
def test_video(payload: bytes, tag: Tag) -> None:
    assert inspect_video(payload) == tag


@pytest.mark.parametrize(
    ("payload", "tag"),
    [
        (b"\xaf\x00\x12\x10", Tag("MPEG-4 Audio", header=True, config_at=2)),
        (b"\xaf\x01x", Tag("MPEG-4 Audio")),
        (b"\x2fx", Tag("MPEG-1/2 Audio")),
        (b"\x8ex", Tag("G711")),
        (b"\x90OpusOpusHead", Tag("Opus", header=True, config_at=5)),
        (b"\x91Opusx", Tag("Opus")),
        (b"\x91fLaCx", Tag("FLAC")),
        (b"\x95\x01Opus\x02x", Tag("Opus", slot=3)),
    ],
)
def test_audio(payload: bytes, tag: Tag) -> None:
    assert inspect_audio(payload) == tag


def test_any_bytes_are_inspected_without_an_error() -> None:
    source = random.Random(3)
    for _ in range(5_000):
        payload = source.randbytes(source.randrange(12))
        inspect_video(b"\x97" + payload if source.random() < 0.3 else payload)
        inspect_audio(b"\x97" + payload if source.random() < 0.3 else payload)
