"""Source frames on their way out: bounded, cut into equal chunks, and judged for speech. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from babelcast.audio.pcm import db, from_s16le, rms
from babelcast.units import SPEECH_RATE, SpeechFrame, samples_to_ns

_FLOOR_FRAMES = 100
_ABOVE_FLOOR_DB = 9.0
_HIGHEST_GATE_DBFS = -30.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """S16LE mono at 16 kHz. The source times are None for silence that we made."""

    pcm: bytes
    start_ns: int | None = None
    end_ns: int | None = None


class Inbox:
    """Frames in, chunks of ``chunk_ms`` out. Full policy: drop the oldest frame and count it."""

    def __init__(self, bound_s: float, chunk_ms: int) -> None:
        self._bound = int(bound_s * SPEECH_RATE) * 2
        self._chunk = SPEECH_RATE * chunk_ms // 1_000 * 2
        self._parts: deque[SpeechFrame] = deque()
        self._held = 0
        self.dropped = 0

    @property
    def held_s(self) -> float:
        return self._held / 2 / SPEECH_RATE

    @property
    def silence(self) -> Chunk:
        return Chunk(bytes(self._chunk))

    def put(self, frame: SpeechFrame) -> tuple[int, int] | None:
        """Add a frame; the source span that had to go is returned."""
        self._parts.append(frame)
        self._held += len(frame.pcm)
        gone = []
        while self._held > self._bound and len(self._parts) > 1:
            gone.append(self._parts.popleft())
            self._held -= len(gone[-1].pcm)
        self.dropped += len(gone)
        return (gone[0].start_ns, gone[-1].end_ns) if gone else None

    def take(self, *, last: bool = False) -> Chunk | None:
        """The next chunk; None while there is not enough for one. ``last``: what is left is filled up with silence."""
        if self._held < self._chunk and not (last and self._held):
            return None
        taken, start_ns, end_ns = bytearray(), self._parts[0].start_ns, 0
        while self._parts and len(taken) < self._chunk:
            part = self._parts.popleft()
            want = self._chunk - len(taken)
            taken += part.pcm[:want]
            cut_ns = part.start_ns + samples_to_ns(min(want, len(part.pcm)) // 2, SPEECH_RATE)
            end_ns = cut_ns
            if len(part.pcm) > want:
                self._parts.appendleft(SpeechFrame(cut_ns, part.pcm[want:]))
        self._held -= len(taken)
        taken += bytes(self._chunk - len(taken))
        return Chunk(bytes(taken), start_ns, end_ns)


class Gate:
    """Whether a chunk is loud enough for speech: over ``speech_dbfs``, and over the quietest of the last 10 s."""

    def __init__(self, speech_dbfs: float, audible_dbfs: float) -> None:
        self._speech_dbfs = speech_dbfs
        self._audible_dbfs = audible_dbfs
        self._levels: deque[float] = deque(maxlen=_FLOOR_FRAMES)

    def judge(self, pcm: bytes) -> tuple[bool, bool]:
        """(speech, audible) for S16LE mono."""
        level = db(rms(from_s16le(pcm, channels=1)))
        self._levels.append(level)
        floor = min(min(self._levels) + _ABOVE_FLOOR_DB, _HIGHEST_GATE_DBFS)
        return level > max(self._speech_dbfs, floor), level > self._audible_dbfs
