"""Tempo without pitch: Signalsmith Stretch through python-stretch (MIT)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from python_stretch.Signalsmith import Stretch

from babelcast.audio.fade import JOIN, linear_in
from babelcast.units import RATE, Pcm

MAX_TEMPO = 1.45
"""Faster speech sounds wrong."""

_SEED = 20_250_101
"""The stretcher dithers phases; a fixed seed makes a dub reproducible sample by sample."""
_BLOCK_S, _INTERVAL_S = 0.1, 0.02
"""Five blocks overlap. The library's preset has four, and its windows then leave a step of up to −50 dBFS at every
interval, which the click finder hears (tests/audio/test_stretch.py)."""
_RAMP_S = 0.25  # of each of the four pieces in which tempo changes
_EDGE = 0.5  # of the way from 1.0 to the tempo is what a segment begins and ends with
_FLAT_BELOW = 1.08
_PAD_S = 0.12
_ALIGN_S = 0.005


def stretched_length(n: int, tempo: float) -> int:
    """Samples that ``n`` samples become at ``tempo``."""
    return max(1, round(n / tempo)) if n else 0


def stretch(samples: Pcm, tempo: float, rate: int = RATE) -> Pcm:
    """Mono speech, shape (n,), ``tempo`` times as fast, with its pitch kept; exactly stretched_length() samples.

    ``tempo`` is the mean. Within a segment it rises in two steps from half as much and falls again to that
    (:func:`tempo_curve`), so that neither the segment's beginning nor its end is a jump; the pieces are joined
    where they are alike. The curve depends on mean and length only, so a dub can be made again from its journal.
    """
    if tempo == 1.0 or not len(samples):
        return samples
    curve = tempo_curve(len(samples), tempo, rate)
    if len(curve) == 1:
        return _fitted(_at_tempo(samples, tempo, rate), stretched_length(len(samples), tempo))
    return _fitted(_joined(samples, curve, rate), stretched_length(len(samples), tempo))


def tempo_curve(n: int, tempo: float, rate: int = RATE) -> list[tuple[int, float]]:
    """(samples of the input, their tempo) for a segment of ``n`` samples; no piece above :data:`MAX_TEMPO`."""
    ramp = round(_RAMP_S * rate)
    middle = n - 4 * ramp
    if tempo < _FLAT_BELOW or middle < 2 * ramp:
        return [(n, tempo)]
    for tenths in range(10):
        edge = 1.0 + (tempo - 1.0) * (_EDGE + (1.0 - _EDGE) * tenths / 10)
        top = _top(n, tempo, ramp, edge)
        if top <= MAX_TEMPO:
            between = (edge + top) / 2.0
            return [(ramp, edge), (ramp, between), (middle, top), (ramp, between), (ramp, edge)]
    return [(n, tempo)]


def _top(n: int, tempo: float, ramp: int, edge: float) -> float:
    """Tempo of the middle that gives the mean: n/tempo = 2·ramp·(1/edge + 1/between) + middle/top, by bisection."""
    low, high = tempo, 2.0
    for _ in range(40):
        top = (low + high) / 2.0
        length = 2 * ramp * (1.0 / edge + 2.0 / (edge + top)) + (n - 4 * ramp) / top
        low, high = (top, high) if length > n / tempo else (low, top)
    return high


def _at_tempo(samples: Pcm, tempo: float, rate: int) -> Pcm:
    stretcher = Stretch(_SEED)
    stretcher.configure(1, round(_BLOCK_S * rate), round(_INTERVAL_S * rate))
    stretcher.setTimeFactor(tempo)
    out: Pcm = np.asarray(stretcher.process(np.ascontiguousarray(samples)[None, :]), dtype=np.float32)[0]
    return out


def _joined(samples: Pcm, curve: list[tuple[int, float]], rate: int) -> Pcm:
    """Each piece stretched with some of its neighbours around it; they are crossfaded (15 ms) within 5 ms of the
    nominal place, where the waveforms agree best."""
    pad, reach = round(_PAD_S * rate), round(_ALIGN_S * rate)
    fade = JOIN * rate // RATE
    bounds = np.cumsum([0, *(n for n, _ in curve)])
    out = np.zeros(0, np.float32)
    nominal = 0.0
    for (begin, end), (_, tempo) in zip(pairwise(bounds.tolist()), curve, strict=True):
        first, last = max(0, begin - pad), min(len(samples), end + pad)
        piece = _at_tempo(samples[first:last], tempo, rate)
        start = round((begin - first) / tempo)  # of the piece proper within what was stretched
        nominal += (end - begin) / tempo
        keep = round(nominal) + (fade + reach if end < len(samples) else 0)
        if begin == 0:
            out = piece[: start + keep]
            continue
        at = len(out) - fade - reach  # the nominal border, in what is out
        template = out[at : at + fade]
        later = reach if end < len(samples) else 0  # the last piece must reach to the end
        shift = _best_shift(template, piece[start - reach : start + later + fade], reach)
        rise = linear_in(fade)
        tail = piece[start + shift :]
        mixed = template * rise[::-1] + tail[:fade] * rise
        out = np.concatenate((out[:at], mixed, tail[fade : keep - at]))
    return out


def _best_shift(template: Pcm, window: Pcm, reach: int) -> int:
    """Where in [−reach, reach] ``window`` is most like ``template`` (normalised correlation)."""
    count = len(window) - len(template) + 1
    if count <= 1:
        return 0
    products = np.correlate(window, template, "valid")
    sums = np.concatenate((np.zeros(1), np.cumsum(window.astype(np.float64) ** 2)))
    energy = sums[len(template) :] - sums[: -len(template)]
    scores = products / np.sqrt(energy + 1e-9)
    return int(np.argmax(scores)) - reach


def _fitted(out: Pcm, wanted: int) -> Pcm:
    if len(out) == wanted:
        return out
    fitted = np.zeros(wanted, np.float32)
    fitted[: min(wanted, len(out))] = out[:wanted]
    return fitted
