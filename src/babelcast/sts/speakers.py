"""Who speaks: a person's voice by its pitch and its spectral envelope, told apart clause by clause. Pure.

Small on purpose: a broadcast's turns are few, long and between different voices. It hears that another person speaks,
gives each person the same number every time, and guesses man or woman from the pitch; it recognises nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from babelcast.sts.tts.base import Gender
from babelcast.sts.vad import RATE
from babelcast.units import Pcm

_FRAME = 640
"""Samples of a frame: 40 ms holds two periods of a deep voice."""
_HOP = 480
_FFT = 2048
_LOWEST_HZ, _HIGHEST_HZ = 65.0, 400.0
_VOICED = 0.5
"""Normalised autocorrelation at the pitch's lag from which a frame counts as voiced."""
_QUIET_DB = -25.0
"""Frames this much below the clause's loudest carry more background than voice."""
_BANDS = 20
_BAND_HZ = (150.0, 5_500.0)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VoicePrint:
    """``f0``: median pitch in Hz; ``envelope``: mean level in dB of :data:`_BANDS` mel bands over voiced frames, less
    its own mean, so that loudness plays no part. ``voiced_s``: how much voice it was made from."""

    f0: float
    envelope: Floats
    voiced_s: float


@dataclass(frozen=True, slots=True)
class SpeakerSettings:
    octave: float = 0.33
    """Pitches this far apart (in octaves) are as different as two people's."""
    envelope_db: float = 4.0
    """Root mean square difference of envelopes that two people have."""
    new: float = 1.5
    """Distance to every known voice from which somebody else speaks."""
    stay: float = 0.3
    """Another known voice takes over only when it is this much nearer than the present one: hysteresis."""
    min_voiced_s: float = 0.4
    """Less voice than this decides nothing: the present speaker goes on."""
    most: int = 8
    """Voices that are told apart; beyond it the nearest is taken."""
    male_below_hz: float = 145.0
    female_above_hz: float = 155.0
    """Between the two, nothing is guessed."""
    learn: float = 0.2
    """Weight of a clause in the picture of its speaker."""


def voice_print(samples: Pcm) -> VoicePrint | None:
    """The voice in mono float32 at 16 kHz, shape (n,); None where hardly any of it is voiced."""
    count = (len(samples) - _FRAME) // _HOP + 1
    if count < 3:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), _FRAME)[::_HOP]
    frames = (frames - frames.mean(axis=1, keepdims=True)) * np.hanning(_FRAME)
    power = np.abs(np.fft.rfft(frames, _FFT)) ** 2
    energy = power.sum(axis=1)
    if energy.max() <= 1e-6:
        return None
    pitch, voicing = _pitch(power)
    voiced = (voicing >= _VOICED) & (10 * np.log10(energy / energy.max() + 1e-12) > _QUIET_DB)
    if voiced.sum() < 3:
        return None
    bands = 10 * np.log10(power[voiced] @ _mel() + 1e-9)
    envelope = (bands - bands.mean(axis=1, keepdims=True)).mean(axis=0)
    return VoicePrint(float(np.median(pitch[voiced])), envelope, float(voiced.sum()) * _HOP / RATE)


def _pitch(power: Floats) -> tuple[Floats, Floats]:
    """Pitch in Hz of each frame and how periodic it is, by autocorrelation corrected for the window's own (Boersma,
    1993)."""
    lags = np.fft.irfft(power)[:, : _FRAME // 2 + 1]
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(_FRAME), _FFT)) ** 2)[: _FRAME // 2 + 1]
    normalised = lags / (lags[:, :1] + 1e-12) / (window / window[0])
    first, last = int(RATE / _HIGHEST_HZ), min(int(RATE / _LOWEST_HZ), _FRAME // 2)
    # a short lag is preferred a little, against octaves below
    cost = normalised[:, first : last + 1] - 0.02 * np.log2(np.arange(first, last + 1) / first)
    best = cost.argmax(axis=1) + first
    return RATE / best, normalised[np.arange(len(best)), best]


def _mel() -> Floats:
    """Triangular filters, shape (bins, bands)."""
    lowest, highest = (2595 * np.log10(1 + hz / 700) for hz in _BAND_HZ)
    edges = np.linspace(lowest, highest, _BANDS + 2)
    hz = 700 * (10 ** (edges / 2595) - 1)
    bins = np.fft.rfftfreq(_FFT, 1 / RATE)[:, None]
    rise, fall = (bins - hz[:-2]) / (hz[1:-1] - hz[:-2]), (hz[2:] - bins) / (hz[2:] - hz[1:-1])
    filters: Floats = np.clip(np.minimum(rise, fall), 0, None)
    return filters


def distance(one: VoicePrint, other: VoicePrint, settings: SpeakerSettings) -> float:
    """0 for the same sound; 1 where pitch alone or envelope alone differs as two people's do."""
    pitch = np.log2(one.f0 / other.f0) / settings.octave
    colour = np.sqrt(np.mean((one.envelope - other.envelope) ** 2)) / settings.envelope_db
    return float(np.hypot(pitch, colour))


@dataclass(frozen=True, slots=True)
class Speaker:
    """``number`` counts from 0 in order of appearance; ``rank`` among those of the same ``gender``."""

    number: int
    gender: Gender | None
    rank: int


@dataclass(slots=True)
class _Known:
    speaker: Speaker
    print: VoicePrint


@dataclass(slots=True)
class Speakers:
    """The people of one session. ``hear`` each clause in order."""

    settings: SpeakerSettings = field(default_factory=SpeakerSettings)
    _known: list[_Known] = field(default_factory=list)
    _present: int = 0

    def hear(self, samples: Pcm) -> Speaker:
        """Who says this clause (mono float32 at 16 kHz)."""
        heard = voice_print(samples)
        if heard is None or heard.voiced_s < self.settings.min_voiced_s:
            return self._known[self._present].speaker if self._known else Speaker(0, None, 0)
        self._present = self._choose(heard)
        known = self._known[self._present]
        known.print = _blend(known.print, heard, self.settings.learn)
        return known.speaker

    def _choose(self, heard: VoicePrint) -> int:
        settings = self.settings
        far = [distance(heard, known.print, settings) for known in self._known]
        nearest = min(range(len(far)), key=far.__getitem__, default=None)
        if nearest is None or (far[nearest] > settings.new and len(far) < settings.most):
            self._known.append(_Known(self._introduce(heard), heard))
            return len(self._known) - 1
        if far[self._present] <= min(settings.new, far[nearest] + settings.stay):
            return self._present
        return nearest

    def _introduce(self, heard: VoicePrint) -> Speaker:
        gender = gender_of(heard.f0, self.settings)
        rank = sum(known.speaker.gender == gender for known in self._known)
        return Speaker(len(self._known), gender, rank)


def gender_of(f0: float, settings: SpeakerSettings) -> Gender | None:
    """A guess from the median pitch, None where it could be either."""
    if f0 < settings.male_below_hz:
        return "male"
    return "female" if f0 > settings.female_above_hz else None


def _blend(old: VoicePrint, new: VoicePrint, weight: float) -> VoicePrint:
    f0 = old.f0 * (new.f0 / old.f0) ** weight
    return VoicePrint(f0, old.envelope + weight * (new.envelope - old.envelope), old.voiced_s + new.voiced_s)


def samples_of(audio: Sequence[bytes]) -> Pcm:
    """S16LE chunks as float32 in [-1, 1], shape (n,)."""
    return np.frombuffer(b"".join(audio), "<i2").astype(np.float32) / np.float32(32768)
