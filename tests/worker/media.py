"""Clips made by ffmpeg, a publisher and a recorder, and what can be measured on a recording."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import numpy as np

from babelcast.rtmp.message import Message

# Every two seconds the picture turns white and a beep sounds, both for 80 ms.
_FLASH = "lt(mod(t\\,2)\\,0.08)"
VIDEO = f"testsrc2=s=320x180:r=25,eq=brightness=-0.3,drawbox=enable='{_FLASH}':color=white:t=fill"
BEEP = "if(lt(mod(t\\,2)\\,0.08)\\,0.7*sin(2*PI*1000*t)\\,0.02*sin(2*PI*300*t))"
_RATE = 48_000


def make_clip(
    path: Path,
    seconds: float,
    *,
    audio: str | None = "-ac 2 -ar 48000 -c:a aac",
    video: str | None = "-c:v libx264 -preset ultrafast -bf 2 -g 25 -b:v 400k",
) -> Path:
    """``audio`` and ``video`` are ffmpeg's options for the track; None leaves the track out."""
    command = ["ffmpeg", "-v", "error", "-y"]
    if video:
        command += ["-f", "lavfi", "-i", VIDEO]
    if audio:
        command += ["-f", "lavfi", "-i", f"aevalsrc={BEEP}:s={_RATE}"]
    command += ["-t", str(seconds), *(video or "").split(), *(audio or "").split(), str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path


def flv_tags(path: Path) -> list[Message]:
    """The tags of an FLV file: a header of 11 bytes, the body, and 4 bytes of length behind each."""
    data, at, found = path.read_bytes(), 13, []
    while at + 11 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        stamp = int.from_bytes(data[at + 4 : at + 7], "big") | data[at + 7] << 24
        found.append(Message(data[at], stamp, data[at + 11 : at + 11 + size]))
        at += 15 + size
    return found


def write_flv(path: Path, tags: Iterable[Message]) -> None:
    """An FLV file with sound and pictures."""
    out = bytearray(b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00")
    for tag in tags:
        head = bytes([tag.type]) + len(tag.payload).to_bytes(3, "big")
        stamp = (tag.timestamp & 0xFFFFFF).to_bytes(3, "big") + bytes([tag.timestamp >> 24])
        out += head + stamp + bytes(3) + tag.payload + (11 + len(tag.payload)).to_bytes(4, "big")
    path.write_bytes(out)


@contextlib.asynccontextmanager
async def running(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that is killed at the end if it has not ended by itself."""
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def publish(clip: Path, url: str, *options: str) -> None:
    """Publish in real time, to the end of the clip."""
    command = ["ffmpeg", "-v", "error", "-re", *options, "-i", str(clip), "-c", "copy", "-f", "flv", url]
    async with running(*command) as process:
        await process.wait()


async def record(url: str, path: Path) -> None:
    """Record until the stream ends; waits for its beginning. Cancel it to end the wait."""
    command = ["ffmpeg", "-v", "quiet", "-y", "-rw_timeout", "4000000", "-i", url, "-c", "copy", str(path)]
    while True:
        async with running(*command) as process:
            await process.wait()
        if path.exists() and path.stat().st_size > 1_000:
            return
        await asyncio.sleep(0.1)


def access_units(path: Path) -> list[str]:
    """The hash of every access unit, in decoding order."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v", "-c", "copy", "-f", "framemd5", "-"]
    listing = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return [line.rsplit(",", 1)[-1].strip() for line in listing.splitlines() if line and not line.startswith("#")]


def streams(path: Path) -> list[str]:
    """The codecs of a recording."""
    command = ["ffprobe", "-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", str(path)]
    listing = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return sorted(line.strip(",") for line in listing.split())


def sound(path: Path) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """The sound at 48 kHz mono, from time 0 of the recording; gaps are silence."""
    command = ["ffmpeg", "-v", "error", "-copyts", "-i", str(path), "-map", "0:a", "-af"]
    command += ["aresample=async=1:first_pts=0:min_hard_comp=0.005", "-ac", "1", "-ar", str(_RATE), "-f", "f32le", "-"]
    pcm = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    return np.frombuffer(pcm, np.float32)


def beeps(path: Path) -> list[float]:
    """Times in seconds at which a beep begins."""
    loud = np.flatnonzero(np.abs(sound(path)) > 0.2)
    starts = loud[np.insert(np.diff(loud) > _RATE // 2, 0, True)] if len(loud) else loud
    return [float(start) / _RATE for start in starts]


def flashes(path: Path) -> list[float]:
    """Times in seconds of the first white picture of each flash."""
    decode = ["ffmpeg", "-v", "error", "-copyts", "-i", str(path), "-map", "0:v", "-vsync", "0"]
    decode += ["-vf", "scale=16:16,format=gray", "-f", "rawvideo", "-"]
    pixels = subprocess.run(decode, check=True, capture_output=True, timeout=60).stdout
    light = np.frombuffer(pixels, np.uint8).reshape(-1, 256).mean(axis=1)
    probe = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "frame=pts_time", "-of", "csv=p=0"]
    listing = subprocess.run([*probe, str(path)], check=True, capture_output=True, text=True, timeout=60).stdout
    times = [float(line.strip(",")) for line in listing.split()]
    return [times[i] for i in range(1, min(len(times), len(light))) if light[i] > 200 >= light[i - 1]]


def av_offsets_ms(path: Path) -> list[float]:
    """For each flash the distance of the nearest beep; positive: the sound is late."""
    heard = beeps(path)
    return [min((beep - flash for beep in heard), key=abs) * 1000 for flash in flashes(path)]
