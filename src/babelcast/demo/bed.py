"""The sound behind the demo's speech: music and crowd in wide stereo, and the ticks of the A/V measurement.

All of it is made by arithmetic from a fixed seed: the same length gives the same samples.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from babelcast.demo.loudness import integrated_lufs
from babelcast.units import RATE, Pcm

BEEP_HZ = 3_500.0
BEEP_S = 0.04
BEEP_AMPLITUDE = 0.03

_SEED = 20_261
_BEAT_S = 0.625
_CHORDS = (
    # two voicings each (left, right) in Hz: vi–IV–I–V in C, spread so that no note is in both channels
    ((110.0, 261.63, 440.0), (164.81, 329.63, 523.25)),
    ((87.31, 261.63, 440.0), (174.61, 349.23, 523.25)),
    ((130.81, 329.63, 392.0), (196.0, 261.63, 523.25)),
    ((98.0, 246.94, 392.0), (146.83, 293.66, 493.88)),
)
_LOOP_S = len(_CHORDS) * 4 * _BEAT_S * 2

Signal = npt.NDArray[np.float64]


def beep(rate: int = RATE) -> Pcm:
    """One tick: a sine of 3.5 kHz under a raised cosine, 40 ms, peak 1. Shape (n,)."""
    n = int(BEEP_S * rate)
    t = np.arange(n) / rate
    return (np.sin(2 * np.pi * BEEP_HZ * t) * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n))).astype(np.float32)


def make_bed(seconds: float, beeps: tuple[float, ...], loudness: float) -> Pcm:
    """Music and crowd at ``loudness`` LUFS with a tick at each of ``beeps`` seconds. Float32, shape (n, 2).

    The tick is in anti-phase: it is only in the side signal, so that it survives a separation that takes out
    the centre, and no speech is ever where it is looked for.
    """
    n = round(seconds * RATE)
    rng = np.random.default_rng(_SEED)
    music, crowd = _music(rng), _crowd(rng)
    bed = _tile(music, n) / _rms(music) + 0.8 * _tile(crowd, n) / _rms(crowd) * _swells(n)[:, None]
    fade = np.minimum(1.0, np.minimum(np.arange(n), np.arange(n)[::-1]) / (0.05 * RATE))
    faded: Pcm = (bed * fade[:, None]).astype(np.float32)
    faded *= np.float32(10 ** ((loudness - integrated_lufs(faded)) / 20))
    tick = np.float32(BEEP_AMPLITUDE) * beep()
    for at in beeps:
        first = round(at * RATE)
        part = tick[: max(0, n - first)]
        faded[first : first + len(part), 0] += part
        faded[first : first + len(part), 1] -= part
    return faded


def _tile(loop: Signal, n: int) -> Signal:
    return np.tile(loop, (n // len(loop) + 1, 1))[:n]


def _rms(signal: Signal) -> float:
    return float(np.sqrt(np.mean(signal**2)))


def _music(rng: np.random.Generator) -> Signal:
    """A loop of pad, pulse and brushes; shape (n, 2)."""
    n = round(_LOOP_S * RATE)
    out = np.zeros((n, 2))
    bar = round(4 * _BEAT_S * RATE)
    t = np.arange(bar + RATE // 4) / RATE
    envelope = np.minimum(1.0, t / 0.35) * np.minimum(1.0, (t[-1] - t) / 0.5)
    for index in range(2 * len(_CHORDS)):
        for side, notes in enumerate(_CHORDS[index % len(_CHORDS)]):
            voice = np.zeros(len(t))
            for note in notes:
                for harmonic, level in ((1, 1.0), (2, 0.35), (3, 0.14)):
                    detune = 1 + rng.uniform(-0.0015, 0.0015)
                    voice += level * np.sin(2 * np.pi * note * harmonic * detune * t + rng.uniform(0, 2 * np.pi))
            _add(out[:, side], index * bar, 0.25 * voice * envelope)
    beat = round(_BEAT_S * RATE)
    drum_t = np.arange(int(0.18 * RATE)) / RATE
    drum = np.sin(2 * np.pi * (58 * drum_t + 6 * (1 - np.exp(-drum_t * 30)))) * np.exp(-drum_t * 22)
    for index in range(n // beat):
        _add(out[:, index % 2], index * beat, 0.9 * drum)
        brush = rng.standard_normal(int(0.06 * RATE)) * np.exp(-np.arange(int(0.06 * RATE)) / (0.012 * RATE))
        _add(out[:, 1 - index % 2], index * beat + beat // 2, 0.10 * _smooth(brush))
    return out


def _smooth(noise: Signal) -> Signal:
    """Keep the brushes below the ticks' 3.5 kHz."""
    return np.convolve(noise, np.hanning(32) / 16, mode="same")


def _add(channel: Signal, at: int, part: Signal) -> None:
    """Add ``part`` at sample ``at``; what passes the end goes round to the start, so that the loop is seamless."""
    index = (at + np.arange(len(part))) % len(channel)
    channel[index] += part


def _crowd(rng: np.random.Generator, seconds: int = 30) -> Signal:
    """A murmur of many, each channel of its own; seamless; shape (n, 2).

    It falls off early (350 Hz): hiss on the consonants costs the offline recogniser 20 % of the words.
    """
    n = seconds * RATE
    hz = np.fft.rfftfreq(n, 1 / RATE)
    shape = (hz > 100) / (1 + (hz / 350) ** 2) / (1 + (180 / np.maximum(hz, 1)) ** 4) / (1 + (hz / 2_400) ** 8)
    return np.stack([np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * shape, n) for _ in range(2)], axis=1)


def _swells(n: int) -> Signal:
    """Slow rise and fall of the crowd, 0.5 to 1.6."""
    t = np.arange(n) / RATE
    return np.asarray(1.05 + 0.35 * np.sin(2 * np.pi * t / 17.0 - 1.2) + 0.2 * np.sin(2 * np.pi * t / 7.3))
