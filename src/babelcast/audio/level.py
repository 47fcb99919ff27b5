"""How loud the speech in a span is, so that the dub can be as loud."""

from __future__ import annotations

import math

import numpy as np

from babelcast.audio.source import SourceAudio
from babelcast.units import RATE, Pcm

_FRAME = RATE // 50
_BELOW_LOUDEST = 0.1  # frames less than 20 dB below the loud ones count as speech
_FLOOR = 10.0 ** (-55 / 20)
"""Speech below −55 dBFS RMS is taken for a residue of separation."""


def active_rms(voice: Pcm, rate: int = RATE) -> float | None:
    """RMS of the 20 ms frames of a voice, shape (n,), in which it speaks; None where it doesn't.

    A frame speaks when its RMS is within 20 dB of the 95th percentile, so pauses don't count.
    """
    frame = rate // 50
    count = len(voice) // frame
    if not count:
        return None
    power = np.mean(np.square(voice[: count * frame].reshape(count, frame)), axis=1)
    loud = float(np.percentile(power, 95))
    if loud <= _FLOOR * _FLOOR:
        return None
    return math.sqrt(float(power[power >= loud * _BELOW_LOUDEST**2].mean()))


def speech_rms(source: SourceAudio, start: int, stop: int) -> float | None:
    """Active RMS, per channel, of the speech in [start, stop), estimated as original − background.

    None where the span isn't held, or where no speech was taken out (separation off, or nothing found).
    """
    n = stop - start
    original, have = source.read_original(start, n)
    background, have_background = source.read_background(start, n)
    if n <= 0 or min(have, have_background) < n // 2:
        return None
    speech = original
    speech -= background
    per_channel = np.sqrt(np.mean(np.square(speech), axis=1), dtype=np.float32)
    return active_rms(per_channel)
