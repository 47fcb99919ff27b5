"""Loudness by ITU-R BS.1770-4 and EBU R128, on short spans: K-weighted power per 100 ms, and the gates over it.

The K filter is applied in the frequency domain: frames of 50 ms under a sine window, half overlapped (their squared
windows add up to one), each bin weighed with the squared response of the standard's two biquads. That is within
0.1 LU of the filter in the time domain for anything that lasts (tests/audio/test_loudness.py), needs no state between
spans, and costs one FFT.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

from babelcast.units import RATE, Pcm

FLOOR_LUFS = -70.0
"""The absolute gate of BS.1770-4; what is quieter is silence."""
HOP = RATE // 10
"""Samples for which one power is given: 100 ms, a quarter of a gating block."""

_FRAME_HOP = RATE // 40
_FRAME = 2 * _FRAME_HOP
_PER_HOP = HOP // _FRAME_HOP
_BLOCK_HOPS = 4
_OFFSET = -0.691

# Biquads of BS.1770-4, tables 1 and 2 (48 kHz): the shelf of the head, then the RLB high-pass.
_SHELF = ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585))
_HIGHPASS = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))

Powers = npt.NDArray[np.float64]
"""K-weighted mean squares, channels summed, one per :data:`HOP`."""


@functools.cache
def k_weights(size: int) -> Pcm:
    """|K|² at the bins of an rfft of ``size`` samples at 48 kHz, the half spectrum's mirror counted in: the sum of
    these times the squared magnitudes is ``size`` times the weighted energy (Parseval)."""
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    response = np.ones(len(z), dtype=np.complex128)
    for b, a in (_SHELF, _HIGHPASS):
        response *= (b[0] + b[1] * z + b[2] * z * z) / (a[0] + a[1] * z + a[2] * z * z)
    weights = 2.0 * np.abs(response) ** 2
    weights[0] /= 2.0
    weights[-1] /= 2.0
    return weights.astype(np.float32)


@functools.cache
def _window() -> Pcm:
    return np.sin(np.pi * (np.arange(_FRAME) + 0.5) / _FRAME).astype(np.float32)


def hop_powers(samples: Pcm) -> Powers:
    """The powers of each whole 100 ms of ``samples``: shape (n, channels), or (n,) for a voice that is heard from
    both sides (it counts twice, as the standard has it for a centre that is laid on two channels)."""
    mono = samples.ndim == 1
    channels = samples[:, None] if mono else samples
    hops = -(-len(channels) // HOP)
    if not hops:
        return np.zeros(0)
    frames = hops * _PER_HOP + 1  # half a frame before the first sample and half a frame after the last
    padded = np.zeros(((frames + 1) * _FRAME_HOP, channels.shape[1]), np.float32)
    padded[_FRAME_HOP : _FRAME_HOP + len(channels)] = channels
    step, inner = padded.strides
    framed = np.lib.stride_tricks.as_strided(
        padded, (frames, channels.shape[1], _FRAME), (_FRAME_HOP * step, inner, step), writeable=False
    )
    spectra = np.fft.rfft(framed * _window(), axis=2)
    energy = (spectra.real**2 + spectra.imag**2) @ k_weights(_FRAME)
    energies = energy.sum(axis=1, dtype=np.float64) * ((2.0 if mono else 1.0) / _FRAME)
    # frame i spreads over frame hops i − 1 and i; give each hop of 100 ms its frames, the outer ones by half
    edges = energies[: hops * _PER_HOP : _PER_HOP] / 2 + energies[_PER_HOP::_PER_HOP] / 2
    inside = energies[:-1].reshape(hops, _PER_HOP)[:, 1:].sum(axis=1)
    powers: Powers = (edges + inside) / HOP
    if len(channels) % HOP:
        powers[-1] *= HOP / (len(channels) % HOP)  # the last one is shorter
        if len(channels) % HOP < HOP // 2 and hops > 1:
            powers = powers[:-1]
    return powers


def lufs(power: float) -> float:
    """Mean square → LUFS; the floor for silence."""
    return max(FLOOR_LUFS, _OFFSET + 10.0 * math.log10(power)) if power > 1e-12 else FLOOR_LUFS


def gated_power(powers: Powers) -> float:
    """Mean of the 400 ms blocks (75 % overlap) that pass both gates of BS.1770-4; 0.0 where none does.

    A span shorter than a block counts as one block.
    """
    if not len(powers):
        return 0.0
    if len(powers) < _BLOCK_HOPS:
        blocks = np.array([powers.mean()])
    else:
        sums = np.concatenate(([0.0], np.cumsum(powers)))
        blocks = (sums[_BLOCK_HOPS:] - sums[:-_BLOCK_HOPS]) / _BLOCK_HOPS
    loud = blocks[blocks > 10.0 ** ((FLOOR_LUFS - _OFFSET) / 10.0)]
    if not len(loud):
        return 0.0
    relative = loud[loud > loud.mean() / 10.0]  # 10 LU under the loudness of what passed the absolute gate
    return float(relative.mean())
