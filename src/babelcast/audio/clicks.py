"""Finds clicks in a recording: jumps that the sound around them doesn't explain.

Two looks at each channel, because a click shows where the programme isn't:

- *Prediction*: every 43 ms an all-pole model (order 32, autocorrelation method) of the 85 ms around says what the next
  sample is likely to be; what it doesn't foresee is the residual (Godsill & Rayner, Digital Audio Restoration, 1998,
  ch. 5). Tones, speech and hum vanish in it, a jump of any kind leaves its full height.
- *Lone*: a click is over within a millisecond, while a drum, a plosive or a consonant goes on, and a voice's pulses
  come again with every period. So a peak of the residual counts only where it stands out, by :data:`LONE_DB`, from
  everything else within ±30 ms (1.5 ms around it left out, and one other place: a hole has two edges), and by
  :data:`OVER_DB` from the median there.

It must do so in the whole residual and in what of it lies above a sixth of the rate (8 kHz), because a jump has all
frequencies while the bursts of a mouth have their place. And it must itself be above the threshold, −60 dBFS unless
told otherwise.

A lossy codec makes small transients of its own, where a mouth or a drum did, and most of them in one channel. For sound
that has been through one (``coded``) a click must also be in every channel (within 12 dB), no less than 25 dB below
the programme (RMS within ±30 ms), and no less than 17 dB below the steepest step from sample to sample within ±10 ms.
tests/audio/test_clicks.py holds what is found and what is missed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from babelcast.audio.pcm import db, from_db, rms
from babelcast.units import RATE, Pcm

THRESHOLD_DB = -60.0
LONE_DB = 10.0
HIGH_LONE_DB = 6.0
OVER_DB = 24.0

_CODED_APART_DB = 12.0
_CODED_UNDER_DB = 25.0
_CODED_STEP_DB = 17.0

_ORDER = 32
_MODEL_S = 0.0853
_CELL_S = 0.0005
_NEAR, _WIDTH, _APART = 60, 3, 8  # in cells: 30 ms, 1.5 ms, 4 ms
_WHITE = 1e-9

Signal = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Click:
    """``height_db``: the unforeseen jump, in dBFS. ``over_db``: how far it stands out from the loudest thing near."""

    sample: int
    time_s: float
    channel: int
    height_db: float
    over_db: float


def find_clicks(
    samples: Pcm, rate: int = RATE, threshold_db: float = THRESHOLD_DB, *, coded: bool = False
) -> list[Click]:
    """Clicks in ``samples``, shape (n,) or (n, channels), in order of time; one per place (the highest channel's).

    The first and last 30 ms are not judged: what is around them isn't known.
    """
    channels = samples[:, None] if samples.ndim == 1 else samples
    residuals = [prediction_residual(channels[:, i].astype(np.float64), rate) for i in range(channels.shape[1])]
    found: list[Click] = []
    for channel, residual in enumerate(residuals):
        found += _lone_peaks(residual, rate, channel, from_db(threshold_db))
    if coded:
        found = [click for click in found if _is_no_codec(click, channels, residuals, rate)]
    found.sort(key=lambda click: (click.sample, -click.height_db))
    apart: list[Click] = []
    for click in found:
        if apart and click.sample - apart[-1].sample < _NEAR / 2 * _CELL_S * rate:
            if click.height_db > apart[-1].height_db:
                apart[-1] = click
        else:
            apart.append(click)
    return apart


def _is_no_codec(click: Click, channels: Pcm, residuals: list[Signal], rate: int) -> bool:
    """Whether a click is too much for a transient that the codec made."""
    at, height = click.sample, from_db(click.height_db)
    here = slice(at - rate // 4_000, at + rate // 4_000 + 1)
    least = min(float(np.abs(residual[here]).max()) for residual in residuals)
    around = channels[max(0, at - round(_NEAR * _CELL_S * rate)) : at + round(_NEAR * _CELL_S * rate), click.channel]
    steps = np.abs(np.diff(channels[max(0, at - rate // 100) : at + rate // 100, click.channel]))
    return (
        least > height * from_db(-_CODED_APART_DB)
        and height > rms(around) * from_db(-_CODED_UNDER_DB)
        and height > float(steps.max()) * from_db(-_CODED_STEP_DB)
    )


def prediction_residual(signal: Signal, rate: int = RATE) -> Signal:
    """What the all-pole model of its neighbourhood doesn't foresee of each sample; shape (n,), as ``signal``.

    Frames overlap by half; each keeps its middle half.
    """
    size = 1 << round(np.log2(_MODEL_S * rate))
    hop = size // 2
    count = -(-len(signal) // hop)
    padded = np.zeros((count + 1) * hop + _ORDER)
    padded[_ORDER + hop // 2 : _ORDER + hop // 2 + len(signal)] = signal
    out = np.empty(count * hop)
    window = np.hanning(size)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size + _ORDER)[::hop]
    for begin in range(0, count, 256):  # in pieces, to bound memory
        some = frames[begin : begin + 256]
        spectra = np.fft.rfft(some[:, _ORDER:] * window, 2 * size)
        correlation = np.fft.irfft(spectra.real**2 + spectra.imag**2)[:, : _ORDER + 1]
        taps = _levinson(correlation)
        residual = np.zeros((len(some), hop))
        middle = _ORDER + hop // 2
        for k in range(_ORDER + 1):
            residual += taps[:, k, None] * some[:, middle - k : middle - k + hop]
        out[begin * hop : (begin + len(some)) * hop] = residual.reshape(-1)
    return out[: len(signal)]


def _levinson(correlation: Signal) -> Signal:
    """Levinson–Durbin for many frames at once: autocorrelations, shape (m, order + 1), to prediction error filters of
    the same shape (first tap 1)."""
    error = correlation[:, 0] * (1.0 + _WHITE) + 1e-18
    taps = np.zeros_like(correlation)
    taps[:, 0] = 1.0
    for k in range(1, correlation.shape[1]):
        reach = np.einsum("ij,ij->i", taps[:, :k], correlation[:, k:0:-1])
        reflection = -reach / error
        taps[:, 1 : k + 1] += reflection[:, None] * taps[:, k - 1 :: -1][:, :k]
        error *= np.maximum(1.0 - reflection**2, 1e-6)
    return taps


def _lone_peaks(residual: Signal, rate: int, channel: int, threshold: float) -> list[Click]:
    """Peaks above ``threshold`` that stand out from their surroundings."""
    cell = round(_CELL_S * rate)
    count = len(residual) // cell
    if count < 2 * _NEAR:
        return []
    heights = np.abs(residual[: count * cell]).reshape(count, cell)
    peaks = heights.max(axis=1)
    high = np.abs(np.convolve(residual, _high_pass(), "same")[: count * cell]).reshape(count, cell).max(axis=1)
    lone, high_lone, over = from_db(LONE_DB), from_db(HIGH_LONE_DB), from_db(OVER_DB)
    found = []
    for index in np.flatnonzero(peaks > threshold).tolist():
        if index < _NEAR or index >= count - _NEAR or peaks[index] < peaks[index - _WIDTH : index + _WIDTH + 1].max():
            continue
        loudest = _loudest_near(peaks, index)
        own_high = high[index - 1 : index + 2].max()
        median = float(np.median(heights[index - _NEAR : index + _NEAR + 1]))
        height = float(peaks[index])
        if height > max(lone * loudest, over * median) and own_high > high_lone * _loudest_near(high, index):
            at = index * cell + int(heights[index].argmax())
            found.append(Click(at, at / rate, channel, db(height), db(height / max(loudest, 1e-9))))
    return found


def _loudest_near(peaks: Signal, index: int) -> float:
    """The highest cell within ±30 ms that belongs neither to the peak at ``index`` nor to one other, apart from it."""
    around = peaks[index - _NEAR : index + _NEAR + 1].copy()
    around[_NEAR - _WIDTH : _NEAR + _WIDTH + 1] = 0.0
    other = int(around.argmax())
    if abs(other - _NEAR) >= _APART:
        around[max(0, other - _WIDTH) : other + _WIDTH + 1] = 0.0
    return float(around.max())


def _high_pass() -> Signal:
    """31 taps, from a sixth of the sample rate on."""
    n = np.arange(-15, 16)
    low = np.sinc(n / 3.0) / 3.0 * np.hamming(31)
    taps: Signal = -low / low.sum()
    taps[15] += 1.0
    return taps
