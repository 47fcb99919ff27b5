"""Size and frame rate, against what an encoder was told."""

from __future__ import annotations

import random
import subprocess

import pytest

from babelcast.rtmp.avc import AvcFormat, avc_format
from babelcast.slate.ffmpeg import flv_tags

pytestmark = pytest.mark.unit


@pytest.mark.integration
@pytest.mark.parametrize(
    ("size", "rate", "profile", "pixels", "more"),
    [
        ("1920x1080", "30", "high", "yuv420p", ""),
        ("1280x720", "60000/1001", "main", "yuv420p", ""),
        ("318x178", "25", "baseline", "yuv420p", ""),
        ("640x360", "24", "high422", "yuv422p", ""),
        ("640x362", "24", "high444", "yuv444p", "-x264-params cqm=jvt"),
        ("720x576", "25", "main", "yuv420p", "-flags +ilme+ildct -x264-params interlaced=1"),
    ],
)
def test_what_an_encoder_writes(size: str, rate: str, profile: str, pixels: str, more: str) -> None:
    command = f"ffmpeg -v error -f lavfi -i color=s={size}:r={rate}:d=0.2 -pix_fmt {pixels} -c:v libx264 {more}"
    command += f" -profile:v {profile} -preset ultrafast -f flv pipe:1"
    flv = subprocess.run(command.split(), check=True, capture_output=True, timeout=60).stdout
    record = next(tag.body[5:] for tag in flv_tags(flv) if tag.type == 9 and tag.body[1] == 0)
    found = avc_format(record)
    assert found is not None
    width, height = map(int, size.split("x"))
    assert (found.width, found.height) == (width, height)
    over, _, under = rate.partition("/")
    assert found.frame_rate == pytest.approx(int(over) / int(under or 1))


# 640x360 baseline, bit by bit: id, frame numbers, order 2, one reference, no gaps, 40 by 23 blocks, frames, direct,
# cropped by 8 lines at the bottom, no usability information, stop
_SPS = "1 1 011 010 0 00000101000 000010111 1 1 1 1 1 1 00101 0 1"
_BITS = _SPS.replace(" ", "").ljust(48, "0")
PLAIN = bytes.fromhex("0142c01effe1000a6742c01e") + int(_BITS, 2).to_bytes(6, "big") + bytes.fromhex("01000468ce3c80")


def test_a_stream_that_does_not_tell_its_rate() -> None:
    found = avc_format(PLAIN)
    assert found == AvcFormat(640, 360, None)


def test_nonsense_is_no_format_and_no_error() -> None:
    rng = random.Random(7)
    assert avc_format(b"") is None
    for cut in range(len(PLAIN)):
        assert avc_format(PLAIN[:cut]) is None or isinstance(avc_format(PLAIN[:cut]), AvcFormat)
    for _ in range(3_000):
        found = avc_format(PLAIN[:8] + rng.randbytes(rng.randrange(1, 60)))
        assert found is None or 16 <= found.width <= 16_384
