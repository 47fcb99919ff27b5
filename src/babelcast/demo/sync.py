"""Sound against picture: the clip's corner flashes and its ticks, found again in a recording.

Sign as in ITU-R BT.1359: positive when the sound is early.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from babelcast.demo.bed import beep
from babelcast.demo.clip import FlashBox
from babelcast.demo.recording import Sound
from babelcast.units import RATE, Pcm

_REACH_S = 0.5
"""Ticks are looked for within this of a flash; well under half their interval."""
_TIMES_NOISE = 5.0
_ALIKE = 0.35
_PRINTED = re.compile(rb"pts_time:([-\d.]+).*?YAVG=([\d.]+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SyncPair:
    """A flash, and how much the tick was early, in ms."""

    flash_s: float
    offset_ms: float


@dataclass(frozen=True, slots=True)
class SyncResult:
    pairs: tuple[SyncPair, ...]
    flashes: int

    @property
    def median_ms(self) -> float | None:
        return float(np.median([pair.offset_ms for pair in self.pairs])) if self.pairs else None

    @property
    def worst_ms(self) -> float | None:
        """The offset that is furthest from zero, with its sign."""
        return max((pair.offset_ms for pair in self.pairs), key=abs) if self.pairs else None


def find_flashes(recording: Path, box: FlashBox) -> list[float]:
    """Times of the first white picture of each flash, in seconds of the recording's clock (undecodable: none)."""
    chain = f"crop={box.width}:{box.height}:{box.x}:{box.y}:exact=1,format=gray,signalstats,metadata=print:file=-"
    command = (
        *("ffmpeg", "-v", "error", "-threads", "2", "-skip_loop_filter", "all", "-copyts", "-i", str(recording)),
        *("-map", "0:v:0", "-an", "-vf", chain, "-fps_mode", "passthrough", "-f", "null", "/dev/null"),
    )
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    frames = [(float(at), float(luma)) for at, luma in _PRINTED.findall(done.stdout)]
    if len(frames) < 2:
        return []
    luma = np.array([value for _, value in frames])
    low, high = np.percentile(luma, 5), luma.max()
    if high - low < 60:
        return []
    white = luma > (low + high) / 2
    return [frames[k][0] for k in range(1, len(frames)) if white[k] and not white[k - 1]]


def tick_envelope(side: Pcm) -> npt.NDArray[np.float64]:
    """Matched filter of the tick over a side signal; index k answers for a tick that begins at sample k."""
    template = beep().astype(np.float64)
    size = 1 << (len(side) + len(template) - 1).bit_length()
    spectrum = np.fft.fft(side, size) * np.conj(np.fft.fft(template, size))
    spectrum[size // 2 :] = 0  # the analytic signal: its magnitude is the envelope, whatever the phase
    envelope: npt.NDArray[np.float64] = np.abs(np.fft.ifft(spectrum))[: len(side)]
    return envelope


def measure_sync(sound: Sound, flashes: list[float]) -> SyncResult:
    """Pair each flash with the tick nearest to it. A flash without a clear tick counts as not found."""
    windows = []
    for flash in flashes:
        at = round((flash - sound.start_s) * RATE)
        first, last = max(0, at - round(_REACH_S * RATE)), at + round(_REACH_S * RATE)
        if len(side := sound.side[first:last]):
            windows.append((flash, first, tick_envelope(side)))
    noise = float(np.median(np.concatenate([envelope for _, _, envelope in windows]))) if windows else 0.0
    found: list[tuple[float, float, float]] = []
    for flash, first, envelope in windows:
        peak = int(np.argmax(envelope))
        if envelope[peak] > max(_TIMES_NOISE * noise, 1e-3):
            offset = (flash - sound.start_s - (first + peak) / RATE) * 1_000
            found.append((flash, offset, float(envelope[peak])))
    # all ticks are equally loud: what is much softer than the others is something else
    usual = float(np.median([level for _, _, level in found])) if found else 0.0
    pairs = tuple(SyncPair(flash, offset) for flash, offset, level in found if level > _ALIKE * usual)
    return SyncResult(pairs, len(flashes))
