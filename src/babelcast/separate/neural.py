"""A separation network on a live stream: chunks with a crossfade, a past for free and a future that costs delay.

The network hears a segment of fixed length (about 6 s). Most of it is past, which is there anyway; of its output only
a chunk near the end is used::

    past                                     chunk              fade   future
    |----------------------------------------|==================|~~~~~~|-------|
                                             the next segment: …|~~~~~~========…

So what is held back is chunk + fade + future, whatever the segment. A longer chunk costs less (one segment is computed
per chunk) and holds back more; :func:`chunk_for` takes the longest that the fixed delay has room for. Where the gate
hears no speech in a chunk the network isn't asked, and the background *is* the programme.
"""

from __future__ import annotations

import numpy as np
import soxr

from babelcast.errors import ConfigError
from babelcast.separate import vad
from babelcast.separate.base import DELAY_MARGIN_S, KEEPS_UP, Separated, nothing
from babelcast.separate.mdx import MdxFormat, MdxNetwork
from babelcast.separate.stft import joined
from babelcast.separate.vad import SpeechGate
from babelcast.units import CHANNELS, RATE, Pcm

_FADE_S = 0.05
_SHORTEST_S = 1.0
_QUALITY = "HQ"
_RESAMPLERS = 2_048  # more than both resamplers hold back, in samples at 48 kHz


class NeuralSeparator:
    """Implements Separator with an MDX network. ``chunk`` is in samples at the network's rate, see
    :func:`chunk_for`; ``gated=False`` asks the network about everything."""

    active = "neural"

    def __init__(self, network: MdxNetwork, chunk: int, *, gated: bool = True) -> None:
        self._network = network
        self._format = f = network.format
        self._gate = SpeechGate() if gated else None
        self._fade = _fade(f)
        self._future = _future(f)
        self._chunk = chunk
        self._past = f.segment - chunk - self._fade - self._future
        if self._past < 0 or chunk < self._fade:
            raise ConfigError(f"{network.path.name} can't separate {chunk / f.rate:.2f} s at a time")
        self._fade_in = ((np.arange(self._fade, dtype=np.float32) + 0.5) / self._fade)[:, None]
        self.latency_samples = -(-(chunk + self._fade + self._future) * RATE // f.rate) + _RESAMPLERS
        self.batch_samples = -(-chunk * RATE // f.rate)
        self._restart()

    def process(self, block: Pcm) -> Separated:
        """See Separator. Once per chunk it takes as long as the network does."""
        self._pending.append(block)
        if self._gate is not None:
            self._gate.push(block)
        self._hear(self._up.resample_chunk(block) if self._up is not None else block)
        return joined([self._emit(estimate) for estimate in self._estimates()])

    def flush(self) -> Separated:
        """See Separator."""
        if self._gate is not None:
            self._gate.finish()
        if self._up is not None:
            self._hear(self._up.resample_chunk(np.zeros((0, CHANNELS), np.float32), last=True))
        end = self._taken
        if end > self._done:
            self._hear(np.zeros((self._chunk + self._fade + self._future, CHANNELS), np.float32))
        estimates = []
        while self._done < end:
            estimates.append(self._next())
        return self._finish(estimates)

    def hand_over(self) -> Separated:
        """See Separator: the end of the last chunk, which was to be faded into the next one."""
        return self._finish([] if self._tail is None else [self._tail])

    def _restart(self) -> None:
        f = self._format
        if self._gate is not None:
            self._gate.restart()
        self._up = self._down = None
        if f.rate != RATE:
            self._up = soxr.ResampleStream(RATE, f.rate, CHANNELS, dtype="float32", quality=_QUALITY)
            self._down = soxr.ResampleStream(f.rate, RATE, CHANNELS, dtype="float32", quality=_QUALITY)
        self._pending: list[Pcm] = []  # samples at 48 kHz that were not given yet
        self._mix = np.zeros((self._past, CHANNELS), np.float32)  # at the network's rate, from _done - _past on
        self._new: list[Pcm] = []
        self._taken = 0  # at the network's rate
        self._done = 0
        self._tail: Pcm | None = None

    def _hear(self, mix: Pcm) -> None:
        self._new.append(mix)
        self._taken += len(mix)

    def _estimates(self) -> list[Pcm]:
        out = []
        while self._taken >= self._done + self._chunk + self._fade + self._future:
            out.append(self._next())
        return out

    def _next(self) -> Pcm:
        """The speech in the next chunk, shape (chunk, 2) at the network's rate."""
        self._mix = np.concatenate((self._mix, *self._new))
        self._new = []
        used = self._chunk + self._fade
        if self._speech_possible(self._done, self._done + used):
            segment = self._mix[: self._format.segment]
            speech = self._network.speech(segment, self._past, self._past + used)
        else:
            speech = np.zeros((used, CHANNELS), np.float32)
        if self._tail is not None:
            head = speech[: self._fade]
            head += (1 - self._fade_in) * (self._tail - head)
        self._tail = speech[self._chunk :]
        self._mix = self._mix[self._chunk :]
        self._done += self._chunk
        return speech[: self._chunk]

    def _speech_possible(self, start: int, stop: int) -> bool:
        if self._gate is None:
            return True
        first, last = start * RATE // self._format.rate, stop * RATE // self._format.rate
        speech, _ = self._gate.at(np.append(np.arange(first, last, vad.STEP), last))
        return bool(speech.any())

    def _emit(self, estimate: Pcm) -> Separated:
        speech = self._down.resample_chunk(estimate) if self._down is not None else estimate
        return self._give(speech)

    def _finish(self, estimates: list[Pcm]) -> Separated:
        """The last estimates, cut to what is there."""
        parts = [self._emit(estimate) for estimate in estimates]
        rest = nothing()
        if self._down is not None:
            rest = self._give(self._down.resample_chunk(np.zeros((0, CHANNELS), np.float32), last=True))
        self._restart()
        return joined([*parts, rest])

    def _give(self, speech: Pcm) -> Separated:
        pending = np.concatenate(self._pending) if self._pending else np.zeros((0, CHANNELS), np.float32)
        speech = speech[: len(pending)]  # in a flush the network was given silence after the end
        self._pending = [pending[len(speech) :]]
        return Separated(pending[: len(speech)] - speech, speech)


def chunk_for(f: MdxFormat, delay_s: float | None) -> int:
    """Samples at the network's rate to separate at a time: ``f.chunk_s`` where it is set, else the longest that a
    delay of ``delay_s`` has room for; None is no delay (a file).

    Raises ConfigError, naming the delay that is needed, where even the shortest doesn't fit.
    """
    longest = f.segment - _future(f) - _fade(f)
    if f.chunk_s is not None:
        chunk = round(f.chunk_s * f.rate)
    elif delay_s is None:
        chunk = longest
    else:
        others = (_future(f) + _fade(f)) / f.rate + _RESAMPLERS / RATE + DELAY_MARGIN_S
        chunk = max(int((delay_s - others) / (1 + KEEPS_UP) * f.rate), round(_SHORTEST_S * f.rate))
    chunk = min(chunk, longest) // f.hop * f.hop
    needed = delay_needed(f, chunk)
    if delay_s is not None and needed > delay_s:
        raise ConfigError(
            f"separation `neural` needs a delay of at least {needed:.1f} s, and it is {delay_s:g} s",
            hint="raise `delay`, or take `separation: auto`",
        )
    return chunk


def delay_needed(f: MdxFormat, chunk: int) -> float:
    """Seconds: what is held back, a chunk's computation at the slowest that keeps up, and the margin."""
    held_back = (chunk + _fade(f) + _future(f)) / f.rate + _RESAMPLERS / RATE
    return held_back + KEEPS_UP * chunk / f.rate + DELAY_MARGIN_S


def _fade(f: MdxFormat) -> int:
    return round(_FADE_S * f.rate)


def _future(f: MdxFormat) -> int:
    """Within half an FFT of the end the network is unsure, and the gate must know whether there is speech."""
    return max(f.n_fft // 2, -(-(vad.LOOKAHEAD + vad.STEP) * f.rate // RATE))
