"""Where each dubbed phrase is in the published stream, found from outside.

The offline voice is deterministic: the phrase is spoken again from the journal's text and voice, brought to the
journal's tempo as the worker does it, and looked for in the recording by normalised cross-correlation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import soxr

from babelcast.audio.stretch import stretch
from babelcast.demo.recording import Sound
from babelcast.errors import BabelcastError
from babelcast.spec import SegmentEntry
from babelcast.sts.tts import espeak
from babelcast.units import RATE, Pcm

Speak = Callable[[str, str], tuple[Pcm, int]]
"""(text, the journal's voice) → mono float32 samples and their rate; from several threads. Raises BabelcastError."""

SEARCH_RATE = 16_000
_BAND_RATE = 8_000
FOUND = 0.5
"""Correlation from which a phrase counts as found; another phrase of the same voice stays below 0.3."""

_REACH_S = 20.0
_APART_S = 0.25
_AS_GOOD = 0.8
_SILENT = 1e-3

Signal = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Phrase:
    """A journal entry and where it was heard: ``start_s`` on the recording's clock, None when it was not found.

    ``again_s`` are further places where the same phrase is heard although no other entry accounts for them.
    """

    entry: SegmentEntry
    start_s: float | None
    duration_s: float
    match: float
    again_s: tuple[float, ...] = ()

    @property
    def end_s(self) -> float | None:
        return None if self.start_s is None else self.start_s + self.duration_s


def find_phrases(
    entries: Sequence[SegmentEntry], sound: Sound, expected_s: Callable[[SegmentEntry], float], speak: Speak
) -> list[Phrase]:
    """Look for every placed entry within 20 s of where it is expected, in order.

    ``expected_s`` only says where to look. Two entries with the same words and tempo get the occurrences in turn.
    """
    haystack = _Haystack(sound)
    taken: list[tuple[float, float]] = []
    phrases = []

    def search(entry: SegmentEntry) -> tuple[float, list[tuple[float, float]], float]:
        voice = _as_worker(*speak(entry.translation, entry.voice), entry.tempo)
        hits, best = haystack.find(voice, expected_s(entry)) if entry.placed_ns is not None else ([], 0.0)
        return len(voice) / RATE, hits, best

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        searched = list(pool.map(search, entries))
    for entry, (duration, hits, best) in zip(entries, searched, strict=True):
        free = [(at, match) for at, match in hits if all(abs(at - other) > _APART_S for other, _ in taken)]
        if not free:
            phrases.append(Phrase(entry, None, duration, best))
            continue
        same = [other for other in entries if (other.translation, other.voice) == (entry.translation, entry.voice)]
        # of several occurrences the entries take them in order; one that nobody owns is a repeat
        at, match = min(hit for hit in free if hit[1] > _AS_GOOD * max(other for _, other in free))
        taken.append((at, match))
        again = tuple(other for other, _ in free if other != at) if len(same) == 1 else ()
        phrases.append(Phrase(entry, at, duration, match, again))
    return phrases


def overlaps(phrases: Sequence[Phrase], tolerance_s: float = 0.02) -> int:
    """How many found phrases begin before the one before them has ended."""
    found = [phrase for phrase in phrases if phrase.start_s is not None]
    found.sort(key=lambda phrase: phrase.start_s or 0.0)
    return sum(1 for before, after in pairwise(found) if (before.end_s or 0.0) > (after.start_s or 0.0) + tolerance_s)


def out_of_order(phrases: Sequence[Phrase]) -> int:
    """How many found phrases begin before one that was to be spoken earlier."""
    starts = [phrase.start_s for phrase in phrases if phrase.start_s is not None]
    return sum(1 for before, after in pairwise(starts) if after < before)


def espeak_again(text: str, voice: str) -> tuple[Pcm, int]:
    """Speak as the speech service did; ``voice`` is the journal's (``espeak-ng:es-419+f2@190``).

    Raises BabelcastError for the voice of another engine: it can't be reproduced here.
    """
    samples = espeak.resynthesize(text, voice)
    if samples is None:
        raise BabelcastError(f"the voice {voice or 'unknown'!r} can't be spoken again")
    return samples, espeak.RATE


class _Haystack:
    """The recording's centre, ready to be searched."""

    def __init__(self, sound: Sound) -> None:
        self._start_s = sound.start_s
        self._signal = _prepared(sound.mid)

    def find(self, voice: Pcm, expected_s: float) -> tuple[list[tuple[float, float]], float]:
        """(time, correlation) of every place where ``voice`` is heard, best first; and the best correlation."""
        template = _prepared(voice)
        first = max(0, int((expected_s - self._start_s - _REACH_S) * SEARCH_RATE))
        last = int((expected_s - self._start_s + _REACH_S) * SEARCH_RATE) + len(template)
        scores = _correlate(self._signal[first:last], template)
        best = float(scores.max()) if len(scores) else 0.0
        hits = []
        apart = int(_APART_S * SEARCH_RATE)
        while len(scores) and (peak := int(np.argmax(scores))) >= 0 and scores[peak] >= FOUND:
            hits.append((self._start_s + (first + peak) / SEARCH_RATE, float(scores[peak])))
            scores[max(0, peak - apart) : peak + apart] = 0.0
        return hits, best


def _as_worker(samples: Pcm, rate: int, tempo: float) -> Pcm:
    """At 48 kHz, trimmed and stretched: the treatment of babelcast.audio.schedule, whose trimming is part of what
    a stretched waveform looks like (ends below −60 dBFS off, 10 ms kept)."""
    voice = soxr.resample(samples, rate, RATE) if rate != RATE else samples
    loud = np.flatnonzero(np.abs(voice) > _SILENT)
    if not len(loud):
        raise BabelcastError("a phrase of the journal has no sound")
    keep = RATE // 100
    return stretch(np.ascontiguousarray(voice[max(0, loud[0] - keep) : loud[-1] + 1 + keep], np.float32), tempo)


def _prepared(voice: Pcm) -> Signal:
    """Below 4 kHz, so that half a sample of misplacement does not matter; and without the bed's low end."""
    narrow = soxr.resample(np.ascontiguousarray(voice, np.float32), RATE, _BAND_RATE)
    signal = soxr.resample(narrow, _BAND_RATE, SEARCH_RATE).astype(np.float64)
    return np.append(0.0, signal[1:] - 0.9 * signal[:-1]) if len(signal) else signal


def _correlate(signal: Signal, template: Signal) -> Signal:
    """Normalised cross-correlation, in [-1, 1], for each start at which the template fits wholly."""
    count = len(signal) - len(template) + 1
    if count <= 0 or not len(template):
        return np.zeros(0)
    size = 1 << (len(signal) - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(signal, size) * np.conj(np.fft.rfft(template, size)), size)[:count]
    energy = np.concatenate([[0.0], np.cumsum(signal**2)])
    local = energy[len(template) :][:count] - energy[:count]
    scores: Signal = product / np.sqrt(np.maximum(local, 1e-9) * float(np.sum(template**2)) + 1e-12)
    return scores
