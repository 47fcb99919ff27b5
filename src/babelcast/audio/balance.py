"""Lowers the background, slowly, until the dub stands clear of it.

Listeners want speech at least 10 LU over music and 15 LU over ambience (M. Torcoli et al., "Preferred Levels for
Background Ducking to Produce Esthetically Pleasing Audio for TV with Clear Speech", JAES 67(12), 2019). Both are
K-weighted: the dub's gated loudness is known when it is planned, the background's is measured a second ahead of the
playhead. What the background is, music or ambience, is told by how steady its partials are: see :class:`BedMeter`.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from babelcast.audio.loudness import HOP, k_weights, lufs
from babelcast.units import RATE, Pcm

BedKind = Literal["music", "ambience"]

OVER: dict[BedKind, float] = {"music": 10.0, "ambience": 15.0}
"""LU by which the dub is to stand over each."""
_MARGIN_LU = 1.0
AHEAD = RATE
"""Samples past the playhead at which background and dub are looked at: what is slow must begin early."""

_SHORT_TERM_HOPS = 30
_HELD_HOPS = 80  # the loudest of the last 8 s counts, so that the gain doesn't follow the beat
_HOLD_HOPS = 30  # pauses up to 3 s don't bring the background up
_MOST_DB = 30.0
_EASE = 0.3
_FALL_DB = 1.2  # per hop of 100 ms
_RISE_DB = 0.2

_LOW_BIN, _HIGH_BIN = 20, 400  # 200 Hz to 4 kHz, in bins of 10 Hz
_SMOOTH_BINS = 13
_HALF_SMOOTH = _SMOOTH_BINS // 2
_TONALITY_KEEP = 0.97  # an average over about 3 s
_AMBIENCE_BELOW, _MUSIC_ABOVE = 0.08, 0.12
_SURE_HOPS = 20


class BedMeter:
    """Loudness and kind of the background, hop by hop of 100 ms.

    *Tonality* is the correlation of one hop's log spectrum with the next one's, each without its smooth envelope,
    between 200 Hz and 4 kHz: partials stay where they are from hop to hop, noise and voices don't. Noise, crowd,
    applause and babble measure below 0.05, sustained music 0.25 to 0.95, a single voice 0.1, bare drums 0.03. It is
    music until 2 s have measured below 0.08, and again above 0.12. (Drums alone count as ambience, then.)
    """

    def __init__(self) -> None:
        self._powers: deque[float] = deque(maxlen=_SHORT_TERM_HOPS)
        self._short_term: deque[float] = deque(maxlen=_HELD_HOPS)
        self._residue: npt.NDArray[np.float32] | None = None
        self._hops = 0
        self.tonality = 1.0
        self.kind: BedKind = "music"

    @property
    def lufs(self) -> float:
        """Short-term loudness (3 s), the highest of the last 8 s."""
        return lufs(max(self._short_term)) if self._short_term else lufs(0.0)

    def feed(self, hop: Pcm) -> None:
        """``hop``: the next 4,800 samples, shape (4800, channels)."""
        parts = np.fft.rfft(np.ascontiguousarray(hop.T) * _hann(), axis=1).astype(np.complex64, copy=False)
        squares = np.square(parts.view(np.float32))  # real and imaginary parts in turn
        weighted = float((squares @ _weights()).sum()) / HOP / HOP / _HANN_POWER
        self._powers.append(weighted)
        self._short_term.append(sum(self._powers) / len(self._powers))
        if lufs(weighted) > -60.0:
            near = squares[:, 2 * (_LOW_BIN - _HALF_SMOOTH) : 2 * (_HIGH_BIN + _HALF_SMOOTH)].sum(axis=0)
            self._judge(near[::2] + near[1::2])

    def _judge(self, power: Pcm) -> None:
        """``power``: of the bins from 200 Hz to 4 kHz, and of half a smoothing's width on both sides."""
        log = np.log(power + 1e-9)
        sums = np.concatenate((np.zeros(1), np.cumsum(log, dtype=np.float64)))
        smooth = (sums[_SMOOTH_BINS:] - sums[:-_SMOOTH_BINS]) / _SMOOTH_BINS
        residue = (log[_HALF_SMOOTH:-_HALF_SMOOTH] - smooth).astype(np.float32)
        residue /= np.float32(math.sqrt(float(residue @ residue)) + 1e-9)
        if self._residue is not None:
            alike = float(residue @ self._residue)
            self._hops += 1
            keep = min(_TONALITY_KEEP, 1.0 - 1.0 / self._hops)
            self.tonality = keep * self.tonality + (1.0 - keep) * alike
            if self._hops >= _SURE_HOPS:
                limit = _AMBIENCE_BELOW if self.kind == "music" else _MUSIC_ABOVE
                self.kind = "ambience" if self.tonality < limit else "music"
        self._residue = residue


class Balance:
    """The background's gain for ``balance: auto``. Asked in order of position; a jump starts anew (a new object).

    ``background(pos, n)`` gives samples and how many are present; ``dub_lufs(start, stop)`` the loudness of the
    quietest segment planned there, None where there is none.
    """

    def __init__(
        self, background: Callable[[int, int], tuple[Pcm, int]], dub_lufs: Callable[[int, int], float | None]
    ) -> None:
        self._background = background
        self._dub_lufs = dub_lufs
        self._bed = BedMeter()
        self._node: int | None = None  # hop index at whose start gain_db holds
        self._measured = -(1 << 62)  # hop index up to which the background was fed to the meter
        self._from_db = self._to_db = 0.0
        self._silent_hops = _HOLD_HOPS
        self._target_db = 0.0

    @property
    def bed(self) -> BedMeter:
        return self._bed

    @property
    def gain_db(self) -> float:
        """What is taken off now, as a negative number."""
        return self._from_db

    def gains(self, pos: int, n: int, enabled: bool, offset_lu: float) -> Pcm | None:
        """Gain of the background in [pos, pos + n), shape (n,); None means 1.0.

        ``offset_lu``: by how much the mixer's own gains raise the background against the dub. While it is not
        ``enabled`` the gain goes back to 1.0.
        """
        parts: list[Pcm] = []
        at, stop = pos, pos + n
        while at < stop:
            hop = at // HOP
            if self._node is None and at % HOP:
                self._node = hop  # the curve moves from node to node only: what begins between two waits
            elif self._node != hop:
                self._step(hop, enabled, offset_lu)
            end = min(stop, (hop + 1) * HOP)
            if self._from_db == 0.0 == self._to_db:
                parts.append(_ones(end - at))
            else:
                a, b = 10.0 ** (self._from_db / 20.0), 10.0 ** (self._to_db / 20.0)
                along = np.arange(at - hop * HOP, end - hop * HOP, dtype=np.float32) / np.float32(HOP)
                parts.append((a + (b - a) * along).astype(np.float32, copy=False))
            at = end
        if self._from_db == 0.0 == self._to_db and len(parts) == 1:
            return None
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _step(self, hop: int, enabled: bool, offset_lu: float) -> None:
        """Take the next node of the gain's curve."""
        self._node = hop
        self._from_db = self._to_db
        if enabled:
            self._listen(hop)
        self._target_db = self._aim(hop * HOP, offset_lu) if enabled else 0.0
        way = (self._target_db - self._from_db) * _EASE
        self._to_db = self._from_db + min(max(way, -_FALL_DB), _RISE_DB)
        if self._target_db == 0.0 and self._to_db > -0.01:
            self._to_db = 0.0

    def _listen(self, hop: int) -> None:
        """Measure the background up to a second ahead, as far as it is there."""
        for ahead in range(max(self._measured, hop), hop + AHEAD // HOP + 1):
            block, present = self._background(ahead * HOP, HOP)
            if present < HOP:
                break
            self._bed.feed(block)
            self._measured = ahead + 1

    def _aim(self, pos: int, offset_lu: float) -> float:
        dub = self._dub_lufs(pos, pos + AHEAD)
        if dub is None:
            self._silent_hops += 1
            return 0.0 if self._silent_hops > _HOLD_HOPS else self._target_db
        self._silent_hops = 0
        excess = self._bed.lufs + offset_lu - dub + OVER[self._bed.kind] + _MARGIN_LU
        return -min(max(excess, 0.0), _MOST_DB)


@functools.cache
def _hann() -> Pcm:
    return (0.5 - 0.5 * np.cos(2.0 * np.pi * (np.arange(HOP) + 0.5) / HOP)).astype(np.float32)


_HANN_POWER = 0.375  # mean square of the window


@functools.cache
def _weights() -> Pcm:
    """K-weights for squares of real and imaginary parts in turn."""
    return np.repeat(k_weights(HOP), 2)


@functools.cache
def _ones(n: int) -> Pcm:
    return np.ones(n, np.float32)
