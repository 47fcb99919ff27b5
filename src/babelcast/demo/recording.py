"""Recordings, read tag by tag: what was on the wire, with its own timestamps.

FLV is what the recorders write and what RTMP carries, so nothing is re-timed before it is measured; another
container goes through :func:`as_flv` first. Times are milliseconds of the recording's own clock.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from babelcast.demo.loudness import Powers, block_powers
from babelcast.errors import BabelcastError
from babelcast.units import RATE, Pcm

_AUDIO, _VIDEO = 8, 9
_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
_FRAME = 1_024
_JUMP_S = 0.08
"""A step of the audio timestamps beyond this is a gap (or a jump back), not rounding."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One video access unit: presentation time, and a digest of its bytes."""

    pts_ms: int
    dts_ms: int
    key: bool
    digest: bytes


@dataclass(frozen=True, slots=True)
class Recording:
    """``audio`` holds (time in ms, raw AAC frame) in order; ``aac_config`` the AudioSpecificConfig (b"" = no audio)."""

    path: Path
    video: tuple[Unit, ...]
    audio: tuple[tuple[int, bytes], ...]
    aac_config: bytes

    @property
    def seconds(self) -> float:
        """From the first to the end of the last picture (of the sound, where there are no pictures)."""
        times = [unit.pts_ms for unit in self.video] or [at for at, _ in self.audio]
        if len(times) < 2:
            return 0.0
        span = max(times) - min(times)
        return span / 1_000 * len(times) / (len(times) - 1)


@dataclass(frozen=True)
class Sound:
    """Decoded audio: float32 at 48 kHz, shape (n, 2); sample 0 is at ``start_s`` of the recording's clock.

    What the timestamps leave out is zeros, so that a gap on the wire is silence here.
    """

    pcm: Pcm
    start_s: float
    gaps: int = 0

    @cached_property
    def mid(self) -> Pcm:
        return (self.pcm[:, 0] + self.pcm[:, 1]) * np.float32(0.5)

    @cached_property
    def side(self) -> Pcm:
        return (self.pcm[:, 0] - self.pcm[:, 1]) * np.float32(0.5)

    @cached_property
    def mid_powers(self) -> Powers:
        """:func:`block_powers` of what both channels have in common; with :attr:`side_powers` it adds up to those of
        the two channels."""
        return block_powers(self.mid)

    @cached_property
    def side_powers(self) -> Powers:
        return block_powers(self.side)

    def between(self, start_s: float, end_s: float) -> Pcm:
        first = max(0, round((start_s - self.start_s) * RATE))
        return self.pcm[first : max(first, round((end_s - self.start_s) * RATE))]


def as_flv(path: Path, folder: Path) -> Path:
    """``path`` itself if it is FLV, else a remux of its first picture and sound track in ``folder``.

    Raises BabelcastError when ffmpeg can't (no such file, a codec that FLV does not carry).
    """
    if path.exists():
        with path.open("rb") as file:
            if file.read(3) == b"FLV":
                return path
    out = folder / f"{path.stem}.flv"
    command = (
        "ffmpeg",
        "-v",
        "error",
        "-y",
        "-i",
        str(path),
        "-map",
        "0:v:0?",
        "-map",
        "0:a:0?",
        "-c",
        "copy",
        str(out),
    )
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode:
        raise BabelcastError(f"{path.name} can't be read: {done.stderr.decode(errors='replace').strip()[-200:]}")
    return out


def read_recording(path: Path) -> Recording:
    """Parse an FLV file. Raises BabelcastError when it is none or holds neither pictures nor sound."""
    data = path.read_bytes() if path.exists() else b""
    if data[:3] != b"FLV":
        raise BabelcastError(f"{path.name} is not an FLV recording", hint="nothing was recorded?")
    video: list[Unit] = []
    audio: list[tuple[int, bytes]] = []
    config = b""
    for kind, at, body in _tags(data):
        if kind == _VIDEO:
            unit = _video_unit(at, body)
            if unit is not None:
                video.append(unit)
        elif kind == _AUDIO and len(body) > 2 and body[0] >> 4 == 10:
            if body[1] == 0:
                config = config or bytes(body[2:])
            else:
                audio.append((at, bytes(body[2:])))
    if not video and not audio:
        raise BabelcastError(f"{path.name} holds neither pictures nor sound", hint="nothing was recorded?")
    return Recording(path, tuple(video), tuple(audio), config)


def decode_sound(recording: Recording) -> Sound:
    """The sound of ``recording``, each frame at the time that its tag says. Raises BabelcastError if ffmpeg fails."""
    if not recording.audio or len(recording.aac_config) < 2:
        return Sound(np.zeros((0, 2), np.float32), 0.0)
    rate = _RATES[min(len(_RATES) - 1, (recording.aac_config[0] & 7) << 1 | recording.aac_config[1] >> 7)]
    channels = recording.aac_config[1] >> 3 & 15
    adts = b"".join(
        _adts(len(frame), recording.aac_config[1] >> 7 | (recording.aac_config[0] & 7) << 1, channels) + frame
        for _, frame in recording.audio
    )
    command = ("ffmpeg", "-v", "error", "-f", "aac", "-i", "-", "-ac", "2", "-ar", str(RATE), "-f", "f32le", "-")
    done = subprocess.run(command, input=adts, capture_output=True)
    if done.returncode:
        raise BabelcastError(f"the sound of {recording.path.name} could not be decoded: {done.stderr[-200:]!r}")
    decoded = np.frombuffer(done.stdout, np.float32).reshape(-1, 2)
    return _placed(decoded, np.array([at for at, _ in recording.audio]) / 1_000, _FRAME / rate)


def _placed(decoded: Pcm, times: np.ndarray[tuple[int], np.dtype[np.float64]], frame_s: float) -> Sound:
    """Lay the decoded samples out by the frames' times; within a run the sample count rules, not the milliseconds."""
    grid = times - np.arange(len(times)) * frame_s
    breaks = np.flatnonzero(np.abs(np.diff(grid)) > _JUMP_S) + 1
    runs = np.split(np.arange(len(times)), breaks)
    starts = [float(np.median(grid[run])) + run[0] * frame_s for run in runs]
    origin = min(starts)
    ends = [start + len(run) * frame_s for start, run in zip(starts, runs, strict=True)]
    out = np.zeros((round((max(ends) - origin) * RATE), 2), np.float32)
    for start, run in zip(starts, runs, strict=True):
        part = decoded[round(run[0] * frame_s * RATE) : round((run[-1] + 1) * frame_s * RATE)]
        first = round((start - origin) * RATE)
        part = part[: len(out) - first]
        out[first : first + len(part)] = part
    return Sound(out, origin, len(runs) - 1)


def _tags(data: bytes) -> Iterator[tuple[int, int, memoryview]]:
    """(type, timestamp in ms, body) of each whole tag; a cut-off last tag (a killed recorder) is left out."""
    view = memoryview(data)
    at = int.from_bytes(view[5:9], "big") + 4
    while at + 11 <= len(view):
        size = int.from_bytes(view[at + 1 : at + 4], "big")
        timestamp = int.from_bytes(view[at + 4 : at + 7], "big") | view[at + 7] << 24
        if at + 11 + size > len(view):
            return
        yield view[at] & 0x1F, timestamp, view[at + 11 : at + 11 + size]
        at += 11 + size + 4


def _video_unit(at: int, body: memoryview) -> Unit | None:
    if len(body) < 6:
        return None
    key = body[0] >> 4 & 7 == 1
    if body[0] & 0x80:  # enhanced RTMP: packet type in the low bits, then a FourCC
        kind = body[0] & 15
        if kind not in (1, 3):
            return None
        begin = 8 if kind == 1 else 5
        delay = int.from_bytes(body[5:8], "big", signed=True) if kind == 1 else 0
    else:
        if body[1] != 1:
            return None
        begin, delay = 5, int.from_bytes(body[2:5], "big", signed=True)
    return Unit(at + delay, at, key, hashlib.blake2b(body[begin:], digest_size=12).digest())


def _adts(size: int, rate_index: int, channels: int) -> bytes:
    """The ADTS header (ISO/IEC 13818-7) of one AAC-LC frame of ``size`` bytes."""
    length = size + 7
    bits = 0xFFF << 44 | 1 << 40 | 1 << 38 | rate_index << 34 | channels << 30 | length << 13 | 0x7FF << 2
    return bits.to_bytes(7, "big")
