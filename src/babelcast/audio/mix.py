"""``output = background × bg_gain + dubbed × dub_gain + original × original_gain``, or the fallback in force.

The mixer weighs four parts: the background B, the speech S = original − background, the dub D and a repetition R
of the last dub. Every mode is four gains, so a change of mode is a change of gains, and the background, which most
modes share, doesn't bump in a crossfade. Where the background is missing, B and S get the same gain: their sum is
the original then, whatever B holds.

Ducking (:mod:`babelcast.audio.duck`) and balance (:mod:`babelcast.audio.balance`) turn down B where the dub is on
air; a fifth number of each mode says how much of that applies, so that the fallbacks are left alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from babelcast.audio.balance import Balance
from babelcast.audio.duck import Ducker, Ducking
from babelcast.audio.fade import CROSSFADE as CROSSFADE
from babelcast.audio.fade import eased
from babelcast.audio.fallback import FallbackMode
from babelcast.audio.limit import LOOKAHEAD, PeakLimiter
from babelcast.audio.pcm import MIN_DB, db, rms
from babelcast.audio.schedule import DubTrack
from babelcast.audio.source import SourceAudio
from babelcast.units import CHANNELS, RATE, Pcm

CELL = RATE // 100
"""Modes change on a grid of 10 ms, so the result doesn't depend on how the timeline is cut into blocks."""
RAMP = RATE // 20
"""Samples over which changed settings come into force: 50 ms."""
MIXER_LOOKAHEAD = CROSSFADE + CELL + LOOKAHEAD
"""Samples past the end of a block that must be known for a change of mode to be complete in time."""

_REPEAT_PAUSE = RATE // 2

_LEVEL_SPAN = RATE // 10

_Gains = tuple[float, float, float, float, float]
"""Of B, S, D and R, and how much of ducking and balance applies to B."""


@dataclass(frozen=True, slots=True)
class MixSettings:
    """Linear gains. ``ducked_gain`` is the original's in the fallback ``ducked``.

    ``missing_background`` says what is heard where separation gave no background while the dub is on air: the dub
    over the original at ``ducked_gain``, the dub over the full original, or (``skip``) the original without the dub.
    """

    bg_gain: float = 1.0
    dub_gain: float = 1.0
    original_gain: float = 0.0
    ducked_gain: float = 0.2
    missing_background: Literal["ducked", "original", "skip"] = "ducked"
    ducking: Ducking = field(default_factory=Ducking)
    balance: Literal["off", "auto"] = "off"
    ceiling_db: float = -1.0


@dataclass(frozen=True, slots=True)
class MixLevels:
    """RMS of the last 100 ms that were rendered, in dBFS; −120 for silence. ``dub`` is before its gain."""

    source: float = MIN_DB
    background: float = MIN_DB
    dub: float = MIN_DB
    output: float = MIN_DB


class Mixer:
    """Takes whatever the timeline holds; never waits. State: gains, limiter, and a few rendered milliseconds.

    ``dub`` is None where nothing is dubbed (backend ``none``): then render with the fallback ``original``.
    Render forward; a jump starts anew. ``settings`` may be replaced at any time. ``on_dub`` is told what is read of the
    dub: its position, and the voice before its gain, shape (n,).
    """

    def __init__(
        self,
        source: SourceAudio,
        dub: DubTrack | None,
        settings: MixSettings | None = None,
        on_dub: Callable[[int, Pcm], None] | None = None,
    ) -> None:
        self.settings = settings or MixSettings()
        self._on_dub = on_dub
        self._source = source
        self._dub = dub
        self._started = False
        self._pos = 0
        self._mixed_to = 0
        self._skip = 0
        self._out: Pcm = np.zeros((0, CHANNELS), np.float32)
        self._limiter = PeakLimiter(CHANNELS, self.settings.ceiling_db)
        self._ducker = Ducker(self.settings.ducking)
        self._balance: Balance | None = None
        self._heard: deque[Pcm] = deque(maxlen=_LEVEL_SPAN // CELL)
        self._last_out: Pcm = self._out
        self._from: _Gains | None = None
        self._to: _Gains | None = None
        self._state: tuple[FallbackMode | None, bool] | None = None
        self._fade_start = 0
        self._fade_length = 1
        self._repeat: Pcm | None = None
        self._repeat_start = 0

    @property
    def levels(self) -> MixLevels:
        """Measured when it is asked for; rendering doesn't pay for it."""
        start = self._pos - _LEVEL_SPAN
        return MixLevels(
            source=db(rms(self._source.peek_original(start, _LEVEL_SPAN)[0])),
            background=db(rms(self._source.peek_background(start, _LEVEL_SPAN)[0])),
            dub=db(rms(np.concatenate(self._heard))) if self._heard else MIN_DB,
            output=db(rms(self._last_out[-_LEVEL_SPAN:])),
        )

    def render(self, pos: int, n: int, fallback: FallbackMode | None = None) -> Pcm:
        """Samples [pos, pos + n), shape (n, 2), in the given mode (None: the dub)."""
        if not self._started or pos != self._pos:
            self._restart(pos)
            self._started = True
        needed = pos + n + LOOKAHEAD - self._mixed_to
        if needed > 0:
            self._mix(-(-needed // CELL) * CELL, fallback)
        out = self._out[:n]
        self._out = self._out[n:]
        self._pos = pos + n
        self._last_out = out
        return out

    def _restart(self, pos: int) -> None:
        self._pos = pos
        self._mixed_to = pos // CELL * CELL
        self._limiter = PeakLimiter(CHANNELS, self.settings.ceiling_db)
        self._skip = LOOKAHEAD + pos - self._mixed_to  # the limiter's first output lies before pos
        self._out = np.zeros((0, CHANNELS), np.float32)
        self._ducker = Ducker(self.settings.ducking)
        self._balance = None
        self._heard.clear()
        self._from = self._to = None
        self._state = None
        self._fade_start = 0
        self._repeat = None

    # -- gains

    def _target(self, mode: FallbackMode | None, background_missing: bool) -> _Gains:
        s = self.settings
        if mode == "original":
            return (1.0, 1.0, 0.0, 0.0, 0.0)
        if mode == "ducked":
            return (s.ducked_gain, s.ducked_gain, 0.0, 0.0, 0.0)
        if mode == "silence":
            return (0.0, 0.0, 0.0, 0.0, 0.0)
        repeat = s.dub_gain if mode == "repeat" else 0.0
        dub = s.dub_gain if mode is None else 0.0
        if background_missing:
            if s.missing_background == "skip":
                return (1.0, 1.0, 0.0, 0.0, 0.0)
            stand_in = s.ducked_gain if s.missing_background == "ducked" else 1.0
            return (stand_in, stand_in, dub, repeat, 0.0)
        if mode is None:
            return (s.bg_gain + s.original_gain, s.original_gain, dub, 0.0, 1.0)
        return (s.bg_gain, 0.0, 0.0, repeat, 1.0)

    def _aim(self, at: int, target: _Gains, length: int) -> None:
        """Head for ``target`` from sample ``at`` on."""
        if self._to is None:
            self._from = self._to = target
            return
        if target == self._to:
            return
        now = self._gains_at(np.array([at - self._fade_start], np.float32))[0]  # a position has no room in a float32
        self._from = (float(now[0]), float(now[1]), float(now[2]), float(now[3]), float(now[4]))
        self._to = target
        self._fade_start = at
        self._fade_length = length

    def _gains_at(self, since_start: Pcm) -> Pcm:
        """Gains, shape (n, 5): what grows grows as a sine, what falls falls as a cosine (equal power)."""
        assert self._from is not None and self._to is not None
        angle = eased(since_start / np.float32(self._fade_length)) * np.float32(np.pi / 2)
        rise, fall = np.sin(angle), 1.0 - np.cos(angle)
        columns = [a + (b - a) * (rise if b >= a else fall) for a, b in zip(self._from, self._to, strict=True)]
        gains: Pcm = np.stack(columns, axis=1).astype(np.float32)
        return gains

    def _turned_down(self, pos: int, n: int, spoken: Pcm | None) -> Pcm | None:
        """What ducking and balance make of the background in [pos, pos + n), shape (n,); None means 1.0."""
        settings = self.settings
        self._ducker.settings = settings.ducking
        ducked = self._ducker.gains(spoken, n)
        balanced = None
        if self._dub is not None and (settings.balance == "auto" or self._balance is not None):
            if self._balance is None:
                self._balance = Balance(self._source.peek_background, self._dub.loudness)
            under = max(settings.bg_gain + settings.original_gain, 1e-6)
            offset = 20.0 * math.log10(under / max(settings.dub_gain, 1e-6))
            balanced = self._balance.gains(pos, n, settings.balance == "auto", offset)
            if balanced is None and settings.balance == "off":
                self._balance = None
        if ducked is None or balanced is None:
            return ducked if balanced is None else balanced
        both: Pcm = ducked * balanced
        return both

    # -- rendering

    def _mix(self, n: int, mode: FallbackMode | None) -> None:
        """Mix the next ``n`` samples (whole cells), in runs of cells that share their mode."""
        start, stop = self._mixed_to, self._mixed_to + n
        if self._source.background_lacks(start, n + CROSSFADE):
            for cell in range(start, stop, CELL):
                self._mix_run(cell, CELL, mode, self._source.background_lacks(cell, CELL + CROSSFADE) > 0)
        else:
            self._mix_run(start, n, mode, False)
        self._mixed_to = stop

    def _mix_run(self, pos: int, n: int, mode: FallbackMode | None, missing: bool) -> None:
        self._limiter.ceiling_db = self.settings.ceiling_db
        changed_mode = self._state != (mode, missing)
        silent = self._to is None or (self._to[3] == 0.0 and pos >= self._fade_start + self._fade_length)
        if mode == "repeat" and silent:  # else the one that still fades out goes on
            self._repeat = self._dub.last_spoken() if self._dub else None
            self._repeat_start = pos
        self._state = (mode, missing)
        self._aim(pos, self._target(mode, missing), CROSSFADE if changed_mode else RAMP)
        mixed = self._sum(pos, n)
        out = self._limiter.process(mixed)
        if self._skip:
            skipped = min(self._skip, n)
            self._skip -= skipped
            out = out[skipped:]
        self._out = np.concatenate((self._out, out)) if len(self._out) else out

    def _sum(self, pos: int, n: int) -> Pcm:
        assert self._to is not None
        voice, speaks = self._dub.read(pos, n) if self._dub is not None else (None, False)
        if voice is not None:
            if self._on_dub is not None:
                self._on_dub(pos, voice)
            self._heard.extend(voice[i : i + CELL] for i in range(max(0, n - _LEVEL_SPAN), n, CELL))
        fading = pos < self._fade_start + self._fade_length and self._from != self._to
        gains: _Gains | Pcm = self._to
        if fading:
            gains = np.ascontiguousarray(
                self._gains_at(np.arange(n, dtype=np.float32) + np.float32(pos - self._fade_start)).T
            )
        return self._weigh(pos, n, voice if speaks else None, gains)

    def _weigh(self, pos: int, n: int, voice: Pcm | None, gains: _Gains | Pcm) -> Pcm:
        background_gain, speech_gain, dub_gain, repeat_gain, share = gains
        fixed = isinstance(gains, tuple)
        spoken: Pcm | None = None
        if voice is not None and (not fixed or dub_gain):
            spoken = voice * dub_gain
        if self._repeat is not None and (not fixed or repeat_gain):
            repeated = self._repeated(pos, n) * repeat_gain
            spoken = repeated if spoken is None else spoken + repeated
        down = self._turned_down(pos, n, spoken)
        if down is not None and (not fixed or share):
            background_gain = background_gain * (down if fixed else 1.0 + share * (down - 1.0))
        # B × b + S × s = B × (b − s) + original × s
        difference = background_gain - speech_gain
        out: Pcm | None = None
        if isinstance(difference, np.ndarray) or difference:
            out = _scaled(self._source.read_background(pos, n)[0], difference)
        if not fixed or speech_gain:
            original = _scaled(self._source.read_original(pos, n)[0], speech_gain)
            out = original if out is None else np.add(out, original, out=out)
        if out is None:
            out = np.zeros((n, CHANNELS), np.float32)
        if spoken is not None:
            for channel in range(CHANNELS):
                out[:, channel] += spoken
        return out

    def _repeated(self, pos: int, n: int) -> Pcm:
        """The last dub, over and over, with half a second between."""
        assert self._repeat is not None
        period = len(self._repeat) + _REPEAT_PAUSE
        at = (np.arange(pos, pos + n) - self._repeat_start) % period
        looped: Pcm = np.where(at < len(self._repeat), self._repeat[np.minimum(at, len(self._repeat) - 1)], 0.0)
        return looped.astype(np.float32, copy=False)


def _scaled(block: Pcm, gain: float | Pcm) -> Pcm:
    """``block`` times a gain or one per sample, in place; channel by channel, which is four times as fast."""
    if isinstance(gain, np.ndarray):
        for channel in range(block.shape[1]):
            block[:, channel] *= gain
    elif gain != 1.0:
        block *= np.float32(gain)
    return block
