"""What is heard: gaps, levels over time, how much of the original voice is left and how much of the bed is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from babelcast.demo.loudness import FLOOR_LUFS, Powers, integrated, lufs
from babelcast.demo.recording import Sound
from babelcast.units import RATE, Pcm

SILENCE_DBFS = -55.0

_FRAME = RATE // 100
_WINDOW = 2_048
_HOP = 1_024
_AVERAGED = 15
"""Frames (of 21 ms) over which a transfer function is averaged: short enough for a separation that changes."""

Span = tuple[float, float]
Spectra = npt.NDArray[np.complex128]


def silent_gap_max_s(sound: Sound, start_s: float, end_s: float) -> float:
    """The longest run of 10 ms frames below −55 dBFS RMS in [start_s, end_s); what was not sent is silence."""
    wanted = round((end_s - start_s) * RATE)
    pcm = np.zeros((max(0, wanted), 2), np.float32)
    first = round((sound.start_s - start_s) * RATE)
    source = sound.pcm[max(0, -first) :][: max(0, wanted - max(0, first))]
    pcm[max(0, first) :][: len(source)] = source
    frames = pcm[: len(pcm) // _FRAME * _FRAME].reshape(-1, _FRAME * 2)
    quiet = np.sqrt(np.mean(frames.astype(np.float64) ** 2, axis=1)) < 10 ** (SILENCE_DBFS / 20)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(np.int8), [0]])))
    return float(np.max(edges[1::2] - edges[::2])) * 0.01 if len(edges) else 0.0


@dataclass(frozen=True, slots=True)
class LevelCurve:
    """Momentary loudness (400 ms) every 100 ms, in LUFS; ``times_s`` are the middles of the blocks."""

    times_s: tuple[float, ...]
    lufs: tuple[float, ...]


def centre_and_sides(sound: Sound, shift_s: float) -> dict[str, LevelCurve]:
    """Level of what is in the centre (speech, in a programme with a wide bed) and at the sides (music, crowd).

    A bed whose channels have nothing in common is as loud in the centre as at the sides, so the sides' power is
    taken off the centre's. ``shift_s`` is added to the recording's times.
    """
    if not len(sound.pcm):
        return {}
    sides = sound.side_powers
    centre = np.maximum(sound.mid_powers - sides, 1e-8)
    start = sound.start_s + shift_s
    return {"centre": _curve(centre, start), "sides": _curve(2 * sides, start)}


def loudness(sound: Sound) -> float | None:
    """Integrated loudness in LUFS; None where there is no sound."""
    return integrated(sound.mid_powers + sound.side_powers) if len(sound.pcm) else None


def _curve(powers: Powers, start_s: float) -> LevelCurve:
    times = tuple(round(start_s + 0.2 + 0.1 * k, 3) for k in range(len(powers)))
    return LevelCurve(times, tuple(round(lufs(float(power)), 2) for power in powers))


def loudness_within(sound: Sound, spans: Sequence[Span], invert: bool = False) -> float | None:
    """Gated loudness of the 400 ms blocks that lie wholly inside ``spans`` (or wholly outside them); None if none."""
    if not len(sound.pcm):
        return None
    blocks = sound.mid_powers + sound.side_powers
    starts = sound.start_s + 0.1 * np.arange(len(blocks))
    inside = np.zeros(len(blocks), bool)
    for begin, end in spans:
        if invert:
            inside |= (starts + 0.4 > begin) & (starts < end)
        else:
            inside |= (starts >= begin) & (starts + 0.4 <= end)
    chosen = blocks[~inside if invert else inside]
    value = integrated(chosen)
    return None if not len(chosen) or value <= FLOOR_LUFS else value


@dataclass(frozen=True, slots=True)
class Remains:
    """Levels in dB against the stem itself: 0 = all of it is there, −20 = a hundredth of its power."""

    original_speech_db: float | None
    background_db: float | None


def remains(dubbed: Sound, speech: Pcm, bed: Pcm, offset_s: float, speech_spans: Sequence[Span]) -> Remains:
    """How much of the known stems is in ``dubbed``. ``offset_s``: clip time + it = recording time.

    Short-time transfer functions stem → recording, by cross-spectra averaged over 0.3 s (H1 estimator, Bendat &
    Piersol): what is not coherent with the stem, such as the dub, averages out. The bias of so short an
    average is measured with the stem shifted by seconds, where nothing of it can be coherent, and taken off.
    Not for the bed: its tones are coherent with themselves seconds later, and hardly anything else is on the side.
    ``speech_spans`` are the sentences in clip seconds.
    """
    active = [(round(a * RATE), round(b * RATE)) for a, b in speech_spans]
    mid = _aligned(dubbed, dubbed.mid, offset_s, len(speech))
    side = _aligned(dubbed, dubbed.side, offset_s, len(speech))
    bed_side = (bed[:, 0] - bed[:, 1]) * np.float32(0.5)
    return Remains(
        _coherent_db(speech, mid, active),
        _coherent_db(bed_side[: len(side)], side, [(0, len(side))], unbiased=False),
    )


def _aligned(sound: Sound, signal: Pcm, offset_s: float, n: int) -> Pcm:
    """``signal`` cut to ``n`` samples of the clip's clock, zeros where the recording has nothing."""
    out = np.zeros(n, np.float32)
    first = round((offset_s - sound.start_s) * RATE)
    part = signal[max(0, first) : max(0, first + n)]
    out[max(0, -first) : max(0, -first) + len(part)] = part
    return out


def _coherent_db(stem: Pcm, heard: Pcm, spans: Sequence[tuple[int, int]], unbiased: bool = True) -> float | None:
    """Power of what is coherent with ``stem`` in ``heard``, against the stem's own, in dB; −40 is the floor."""
    reference = coherent = chance = 0.0
    for first, last in spans:
        x, y = _spectra(stem[first:last]), _spectra(heard[first:last])
        count = len(x) // _AVERAGED * _AVERAGED
        if not count:
            continue
        x, y = x[:count], y[:count]
        reference += float(np.sum(np.abs(x) ** 2))
        coherent += _explained(x, y)
        shift = count // 2 if count >= 2 * _AVERAGED else _AVERAGED // 2
        chance += _explained(np.roll(x, shift, axis=0), y) if unbiased else 0.0
    if reference <= 0:
        return None
    return round(float(10 * np.log10(max((coherent - chance) / reference, 1e-4))), 1)


def _explained(x: Spectra, y: Spectra) -> float:
    """Power of the part of ``y`` that ``x`` explains, by bins and by groups of frames."""
    groups = len(x) // _AVERAGED
    shape = (groups, _AVERAGED, x.shape[1])
    xg, yg = x.reshape(shape), y.reshape(shape)
    cross = np.abs(np.sum(np.conj(xg) * yg, axis=1)) ** 2
    power = np.sum(np.abs(xg) ** 2, axis=1)
    return float(np.sum(cross / np.maximum(power, 1e-12)))


def _spectra(signal: Pcm) -> Spectra:
    count = (len(signal) - _WINDOW) // _HOP + 1
    if count <= 0:
        return np.zeros((0, _WINDOW // 2 + 1), np.complex128)
    frames = np.lib.stride_tricks.sliding_window_view(signal, _WINDOW)[::_HOP][:count]
    return np.fft.rfft(frames * np.hanning(_WINDOW), axis=1)
