"""A service's endless output, cut into pieces of speech. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from babelcast.audio.pcm import from_s16le
from babelcast.speech.interpreter.connection import Sound
from babelcast.units import NS_PER_S, Pcm

_FRAME_S = 0.02
_END_FRAMES = 15
"""300 ms of silence end a piece."""
_MARGIN_FRAMES = 3
"""Kept before and after a piece: soft consonants are below the gate."""
_CUT_FRAMES = 45
"""A piece that is too long is cut in its last 900 ms."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Speech between two pauses, or a part of it. Times in ns of output since the connection's start."""

    samples: Pcm
    rate: int
    start_ns: int
    end_ns: int
    opens: bool
    closes: bool


class Voice:
    """Sound in, pieces out. Takes chunks of any size, also odd numbers of bytes, and changes of the sample rate.

    Holds at most ``max_segment_s`` and one chunk.
    """

    def __init__(self, max_segment_s: float, gate_dbfs: float) -> None:
        self._max_frames = round(max_segment_s / _FRAME_S)
        self._gate = 10 ** (gate_dbfs / 10)
        self._rate = 0
        self._rest = b""
        self._frames: list[tuple[Pcm, bool]] = []
        self._position_ns = 0
        self._opens = True
        self._speaking = False
        self._quiet = _END_FRAMES
        self.quiet_ns = 0
        """For how much output it has been silent."""

    @property
    def position_ns(self) -> int:
        """Output that came, in ns."""
        return self._position_ns

    @property
    def speaking(self) -> bool:
        """Whether a piece is in progress."""
        return self._speaking

    def add(self, sound: Sound) -> list[Piece]:
        pieces: list[Piece] = []
        if sound.rate != self._rate:
            pieces += self.flush()
            self._rate = sound.rate
        pcm = self._rest + sound.pcm
        size = round(self._rate * _FRAME_S)
        whole = len(pcm) // (2 * size) * size
        self._rest = pcm[2 * whole :]
        if not whole:
            return pieces
        frames = from_s16le(pcm[: 2 * whole], channels=1).reshape(-1, size)
        loud = np.mean(np.square(frames), axis=1) > self._gate
        for frame, is_loud in zip(frames, loud, strict=True):
            pieces += self._take(frame, bool(is_loud))
        return pieces

    def flush(self) -> list[Piece]:
        """What is in progress, as it is: the output stalls or ends. It may go on where it stopped."""
        self._rest = b""
        pieces = self._cut(len(self._frames), closes=False)
        self._frames.clear()
        return pieces

    def pause(self) -> None:
        """Nothing came for so long that what comes next is something new."""
        self._opens = True

    def _take(self, frame: Pcm, loud: bool) -> list[Piece]:
        self._frames.append((frame, loud))
        length_ns = len(frame) * NS_PER_S // self._rate
        self._position_ns += length_ns
        if loud:
            self._speaking = True
            self._quiet = 0
            self.quiet_ns = 0
        else:
            self._quiet += 1
            self.quiet_ns += length_ns
        if not self._speaking:
            del self._frames[:-_MARGIN_FRAMES]
            self._opens = self._opens or self._quiet >= _END_FRAMES
            return []
        if self._quiet >= _END_FRAMES:
            return self._cut(len(self._frames) - self._quiet + _MARGIN_FRAMES, closes=True)
        if len(self._frames) >= self._max_frames:
            latest_first = [float(np.mean(np.square(part))) for part, _ in self._frames[: -_CUT_FRAMES - 1 : -1]]
            return self._cut(len(self._frames) - int(np.argmin(latest_first)), closes=False)
        return []

    def _cut(self, count: int, *, closes: bool) -> list[Piece]:
        """The first ``count`` frames as a piece; the rest stays."""
        if not self._speaking:
            return []
        taken, left = self._frames[:count], self._frames[count:]
        ns = [len(part) * NS_PER_S // self._rate for part, _ in (*taken, *left)]
        start_ns = self._position_ns - sum(ns)
        samples = np.concatenate([part for part, _ in taken])
        opens, self._opens = self._opens, closes
        self._frames = left
        self._speaking = any(loud for _, loud in left)
        return [Piece(samples, self._rate, start_ns, start_ns + sum(ns[: len(taken)]), opens, closes)]
