"""The speech as what stands in the middle of the stereo image.

With M = (L + R) / 2 and D = (L − R) / 2, centred speech is only in M, and a wide bed in both. So D tells how loud
the bed is at this moment, and where there is no speech the bed's own ratio r(f) = E|M|² / E|D|² is learnt. The
speech is then estimated by a Wiener rule, G = max(0, 1 − c · r · |D|² / |M|²), with |D|² averaged over
neighbouring frames and bins. What stands at a side has |D| as large as |M| and is left alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from babelcast.separate.stft import BINS, Frames, Spectra, bin_of

_LOW, _HIGH = bin_of(30), bin_of(20_000)
_OVER = 1.5  # c: keep a little more of the bed
_RATIO_BOUNDS = (0.1, 4.0)
_AVERAGED_FRAMES, _AVERAGED_BINS = 5, 3
_MEMORY = 0.99  # per quiet frame: about 1 s of quiet time
_TINY = np.float32(1e-12)

Powers = npt.NDArray[np.float32]


class CentreMask:
    """Implements Estimator. State: the bed's learnt mid-to-side ratio, and the last frames' side power."""

    active = "centre"

    def __init__(self) -> None:
        self._mid_power = np.full(BINS, _TINY, np.float32)
        self._side_power = np.full(BINS, _TINY, np.float32)
        self._recent = np.zeros((0, BINS), np.float32)

    def restart(self) -> None:
        self._recent = self._recent[:0]

    def speech(self, frames: Frames) -> Spectra | None:
        left, right = frames.spectra[:, 0], frames.spectra[:, 1]
        mid = (left + right) * np.float32(0.5)
        side_power = power((left - right) * np.float32(0.5))
        mid_power = power(mid)
        self._learn(mid_power[frames.quiet], side_power[frames.quiet])
        history, self._recent = self._recent, side_power[-(_AVERAGED_FRAMES // 2) :]
        if not frames.speech.any():
            return None
        bed = averaged(side_power, history, _AVERAGED_FRAMES, _AVERAGED_BINS)
        bed *= self._ratio() * np.float32(_OVER)
        gain = 1.0 - bed / (mid_power + _TINY)
        np.maximum(gain, 0.0, out=gain)
        gain[:, :_LOW] = 0.0
        gain[:, _HIGH:] = 0.0
        gain[~frames.speech] = 0.0
        voice = mid * gain
        return np.repeat(voice[:, None, :], 2, axis=1)

    def _learn(self, mid_power: Powers, side_power: Powers) -> None:
        if not len(mid_power):
            return
        keep = np.float32(_MEMORY ** len(mid_power))
        # a floor, because a mono programme has no side power at all, and the ratio of the two would overflow
        self._mid_power = np.maximum(keep * self._mid_power + (1 - keep) * mid_power.mean(axis=0), _TINY)
        self._side_power = np.maximum(keep * self._side_power + (1 - keep) * side_power.mean(axis=0), _TINY)

    def _ratio(self) -> Powers:
        ratio = np.clip(self._mid_power / self._side_power, *_RATIO_BOUNDS)
        smooth: Powers = np.convolve(ratio, np.full(5, 0.2, np.float32), "same").astype(np.float32)
        return smooth


def power(spectra: npt.NDArray[np.complex64]) -> Powers:
    """|x|² without the square root."""
    result: Powers = np.square(spectra.real) + np.square(spectra.imag)
    return result


def averaged(values: Powers, history: Powers, frames: int, bins: int) -> Powers:
    """Moving average over ``frames`` × ``bins`` (odd) of shape (t, BINS); ``history`` are the frames before."""
    before = frames // 2
    first = np.repeat(values[:1], before - len(history), axis=0)
    rows = np.concatenate((history, first, values, np.repeat(values[-1:], before, axis=0)))
    total = rows[: len(values)].copy()
    for k in range(1, frames):
        total += rows[k : k + len(values)]
    edge = bins // 2
    columns = np.pad(total, ((0, 0), (edge, edge)), mode="edge")
    out = columns[:, : total.shape[1]].copy()
    for k in range(1, bins):
        out += columns[:, k : k + total.shape[1]]
    out /= frames * bins
    return out
