"""Slates as ffmpeg makes them, looked at with ffmpeg's decoder."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from babelcast.errors import MissingDependencyError, PublishError
from babelcast.slate.h264 import annexb, codec_data
from babelcast.slate.picture import Slate, make_slate
from babelcast.slate.silence import silence_aac

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

SIZE = (320, 180)


def ffmpeg(*arguments: str, feed: bytes = b"") -> bytes:
    """What it writes. Fails on any error that it reports."""
    command = ["ffmpeg", "-v", "error", "-xerror", *arguments]
    done = subprocess.run(command, input=feed, capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def decode(slate: Slate, repeats: int = 1) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """The brightness of every picture, shape (n, height, width)."""
    stream = annexb(slate.avcc, [unit.data for unit in slate.units] * repeats)
    raw = ffmpeg("-f", "h264", "-i", "pipe:0", "-f", "rawvideo", "-pix_fmt", "gray", "pipe:1", feed=stream)
    return np.frombuffer(raw, np.uint8).reshape(-1, slate.height, slate.width)


async def test_a_text_of_any_characters_stands_in_the_middle_and_loops() -> None:
    slate = await make_slate(*SIZE, 25, text="It's 100% \\n: {a}, [b]; %{localtime} 'ß' ünï — £5\nback soon")
    assert (slate.width, slate.height, len(slate.units)) == (*SIZE, 50)
    assert [unit.key for unit in slate.units] == [True] + [False] * 49
    assert codec_data(slate.caps) == slate.avcc
    assert (slate.time_ns(25), slate.unit(100).key) == (1_000_000_000, True)
    pictures = decode(slate, repeats=2)
    assert len(pictures) == 100
    assert pictures[99, 45:135].max() > 200, "letters in the middle"
    assert pictures[99, :20].max() < 60, "and nothing above"
    assert slate.size_bytes < 200_000


async def test_no_text_at_all_is_a_plain_ground_and_a_long_one_fits() -> None:
    plain, full = await asyncio.gather(
        make_slate(*SIZE, Fraction(30_000, 1_001), text=None), make_slate(*SIZE, 5, text="word and word " * 14)
    )
    assert decode(plain).max() < 60
    assert (len(plain.units), plain.frame_duration_ns) == (60, 33_366_666)
    picture = decode(full)[0]
    assert picture.max() > 200
    assert max(picture[:, :8].max(), picture[:, -8:].max(), picture[:8].max(), picture[-8:].max()) < 60


async def test_an_image_in_the_home_of_nobody_can_not_be_read() -> None:
    with pytest.raises(PublishError, match="home"):
        await make_slate(64, 64, 25, image=Path("~there-is-no-such-user/slate.png"))


async def test_an_image_is_fitted_with_bars(tmp_path: Path) -> None:
    image = tmp_path / "white: 'square'.png"
    ffmpeg("-f", "lavfi", "-i", "color=white:s=64x64", "-frames:v", "1", f"file:{image}")
    picture = decode(await make_slate(*SIZE, 10, text="not drawn", image=image))[0]
    assert picture[90, 160] > 230
    assert picture[90, :60].max() < 30 and picture[90, -60:].max() < 30
    with pytest.raises(PublishError):
        await make_slate(*SIZE, 10, image=tmp_path / "absent.png")


async def test_the_last_picture_of_a_group_holds(tmp_path: Path) -> None:
    """Brightness rises from picture to picture, so the last one, behind B-frames, is the brightest."""
    rising = "color=black:s=640x360:r=25,geq=lum='10+8*N':cb=128:cr=128"
    coded = ("-frames:v", "25", "-c:v", "libx264", "-bf", "3")
    group = ffmpeg("-f", "lavfi", "-i", rising, *coded, "-f", "h264", "pipe:1")
    held = decode(await make_slate(*SIZE, 25, background_annexb=group))
    bright = 10 + 8 * 24
    assert abs(float(held[-1].mean()) - (bright - 16) * 255 / 219) < 4
    written = decode(await make_slate(*SIZE, 25, text="Back soon", background_annexb=group))
    assert written[0].max() > 240
    with pytest.raises(PublishError):
        await make_slate(*SIZE, 25, background_annexb=b"no pictures" * 100)


async def test_without_an_encoder_or_without_ffmpeg_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which("ffmpeg")
    assert real
    fake = tmp_path / "ffmpeg"
    fake.write_text(f'#!/bin/sh\ncase "$*" in *-encoders*) echo " V..... mpeg4 x";; *) exec {real} "$@";; esac\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(MissingDependencyError, match=r"no H\.264 encoder"):
        await make_slate(*SIZE, 25, text="x")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(MissingDependencyError, match="not installed"):
        await make_slate(*SIZE, 25, text="x")


async def test_an_encoder_that_hangs_is_ended_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "ffmpeg"
    fake.write_text('#!/bin/sh\ncase "$*" in *-encoders*) echo " V..... libx264 x";; *) exec sleep 60;; esac\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr("babelcast.slate.picture._TIMEOUT_S", 0.5)
    with pytest.raises(PublishError, match="not ready"):
        await make_slate(*SIZE, 25, text="x")
    assert not list(folder.iterdir())


async def test_silence_is_aac_that_decodes_to_zeros(tmp_path: Path) -> None:
    silence = await silence_aac()
    assert silence.config[:2] == b"\x11\x90", "AAC-LC, 48 kHz, two channels"
    assert [silence.time_ms(i) for i in (0, 1, 3, 375)] == [0, 21, 64, 8_000]
    # ADTS: what a decoder takes without a container (ISO/IEC 13818-7, 6.2)
    size = 7 + len(silence.frame)
    head = bytes((0xFF, 0xF1, 0x4C, 0x80 | size >> 11, size >> 3 & 255, (size & 7) << 5 | 31, 0xFC))
    pcm = ffmpeg("-f", "aac", "-i", "pipe:0", "-f", "s16le", "pipe:1", feed=(head + silence.frame) * 20)
    assert len(pcm) >= 19 * 4_096 and not any(pcm)
