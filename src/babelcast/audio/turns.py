"""The dub as loud as the speech that it replaces, turn by turn.

A *turn* is what one voice says without a pause of 1.5 s or more. Over a turn the K-weighted powers of the source's
speech (original − background) and of the dub are both gathered, gated as EBU R128 has it, and the dub's gain is their
difference. Loudness is short-term: of either, the latest 10 s of sound count, and at the beginning what there is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from babelcast.audio.loudness import FLOOR_LUFS, Powers, gated_power, hop_powers, lufs
from babelcast.audio.source import SourceAudio
from babelcast.units import RATE

SpeechPowers = Callable[[int, int], Powers | None]
"""(start, stop) on the source timeline → K-weighted powers of the speech there; None where it isn't known."""

_TURN_PAUSE = RATE * 3 // 2
_WINDOW_HOPS = 100
_STEP_DB = 1.5
_VOICES = 16
_RESIDUE_LUFS = -52.0
"""Speech below this is taken for a residue of separation."""


def speech_powers(source: SourceAudio, start: int, stop: int) -> Powers | None:
    """K-weighted powers of the speech in [start, stop), estimated as original − background.

    None where less than half of the span is held. All that is quieter than −52 LUFS is taken for a residue.
    """
    n = stop - start
    if n <= 0 or source.held(start, n) < n // 2:  # asked first: a span may be any length that a backend says
        return None
    return hop_powers(source.peek_original(start, n)[0] - source.peek_background(start, n)[0])


class TurnLoudness:
    """``limit_db``: the gain never leaves ±limit_db; inside a turn it moves by 1.5 dB a segment at most.

    Where the source's speech isn't known (nothing was separated, or it is too long ago) the voice keeps the gain
    that it last had, and has 0 dB before it had any.
    """

    def __init__(self, speech: SpeechPowers, limit_db: float) -> None:
        self._speech = speech
        self._limit_db = limit_db
        self._gains: dict[str, float] = {}  # the latest voices, in dB
        self._voice: str | None = None
        self._turn_end = 0
        self._source: deque[float] = deque(maxlen=_WINDOW_HOPS)
        self._dub: deque[float] = deque(maxlen=_WINDOW_HOPS)

    def gain_db(self, voice: str, start: int, stop: int, dub: Powers) -> float:
        """For the segment that speaks the source span [start, stop); ``dub``: the powers of its sound."""
        fresh = voice != self._voice or start - self._turn_end >= _TURN_PAUSE
        if fresh:
            self._source.clear()
            self._dub.clear()
        self._voice = voice
        self._turn_end = max(stop, self._turn_end) if not fresh else stop
        last = self._gains.pop(voice, None)
        gain = self._wanted_db(start, stop, dub)
        if gain is None:
            gain = last if last is not None else 0.0
        elif not fresh and last is not None:
            gain = min(max(gain, last - _STEP_DB), last + _STEP_DB)
        self._gains[voice] = gain
        while len(self._gains) > _VOICES:
            self._gains.pop(next(iter(self._gains)))
        return gain

    def _wanted_db(self, start: int, stop: int, dub: Powers) -> float | None:
        speech = self._speech(start, stop)
        self._dub.extend(dub.tolist())
        if speech is not None:
            self._source.extend(speech.tolist())
        wanted = lufs(gated_power(np.array(self._source)))
        own = lufs(gated_power(np.array(self._dub)))
        if wanted <= _RESIDUE_LUFS or own <= FLOOR_LUFS:
            return None
        return min(max(wanted - own, -self._limit_db), self._limit_db)
