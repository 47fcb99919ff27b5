"""What the worker remembers of the source's sound: the original, and the background found in it."""

from __future__ import annotations

from babelcast.audio.fade import CROSSFADE, JOIN, linear_in
from babelcast.audio.pcm import as_pcm, to_s16le
from babelcast.audio.retime import join
from babelcast.audio.ring import SampleRing
from babelcast.units import CHANNELS, RATE, S16, Pcm

_FIRST = RATE // 200
_SHORT_GAP = RATE // 2


class SourceAudio:
    """Two windows of ``capacity_s`` seconds of the source timeline: original and background.

    The background is late by the separator's latency; where it isn't there (yet) a reader learns so from the
    count of present samples. No edge is hard: see :class:`_Signal`. ``read_*`` is for what goes on air, ``peek_*``
    for what is only measured. The original is kept as it came, with 16 bits.
    """

    def __init__(self, capacity_s: float) -> None:
        capacity = round(capacity_s * RATE)
        self._original = _Signal(SampleRing(capacity, CHANNELS, s16=True))
        self._background = _Signal(SampleRing(capacity, CHANNELS))

    @property
    def original_end(self) -> int:
        return self._original.ring.end

    def write_original(self, pos: int, block: Pcm | S16) -> None:
        """``block`` has shape (n, 2)."""
        self._original.write(pos, block)

    def write_background(self, pos: int, block: Pcm) -> None:
        """``block`` has shape (n, 2). Without separation, write the original here too."""
        self._background.write(pos, block)

    def read_original(self, pos: int, n: int) -> tuple[Pcm, int]:
        """Shape (n, 2), zeros where there is nothing; and how many samples are present."""
        return self._original.read(pos, n)

    def original_s16le(self, pos: int, n: int) -> bytes:
        """As :meth:`read_original`: sample for sample what came."""
        return self._original.read_s16le(pos, n)

    def read_background(self, pos: int, n: int) -> tuple[Pcm, int]:
        """Shape (n, 2), zeros where there is nothing; and how many samples are present."""
        return self._background.read(pos, n)

    def peek_original(self, pos: int, n: int) -> tuple[Pcm, int]:
        """As :meth:`read_original`, without the fade at the end of what has come."""
        return self._original.ring.read(pos, n)

    def peek_background(self, pos: int, n: int) -> tuple[Pcm, int]:
        """As :meth:`read_background`, without the fade at the end of what has come."""
        return self._background.ring.read(pos, n)

    def held(self, pos: int, n: int) -> int:
        """How many samples of [pos, pos + n) both have, at the most."""
        return min(self._original.ring.present(pos, n), self._background.ring.present(pos, n))

    def background_lacks(self, pos: int, n: int) -> int:
        """How many samples of [pos, pos + n) the original has and the background has not."""
        return max(0, self._original.ring.present(pos, n) - self._background.ring.present(pos, n))


class _Signal:
    """A ring whose edges are faded, because every edge would click.

    - The first sound of all: 5 ms in.
    - A gap: out and in, 15 ms each; 70 ms where the gap is so long (0.5 s) that it is a change of source.
    - A block that begins before the end of what is there (timestamps stepped back): 15 ms crossfade,
      of even power whether it is the same sound or another one.
    - The end of what has come, when it is read before more has come: 70 ms out. If more comes after all, it begins
      with 70 ms in, and what was already faded stays so.
    - What comes so late that silence was read in its place: 70 ms in, from where the reader is.
    """

    def __init__(self, ring: SampleRing) -> None:
        self.ring = ring
        self._next = 0  # where the last block ended
        self._piece = 0  # where what comes last began: behind a gap, or a fade
        self._read_to: int | None = None
        self._faded_end: int | None = None  # the end that a reader has heard coming
        self._rise_from: int | None = None

    def write(self, pos: int, block: Pcm | S16) -> None:
        ring = self.ring
        if not len(block):
            return
        if pos < ring.end and pos != self._next and self._end_was_read():
            block, pos = block[ring.end - pos :], ring.end  # too late to be crossfaded: its beginning was heard fading
            if not len(block):
                return
        if self._read_to is not None and self._read_to > pos and (ring.empty or self._read_to > ring.end):
            self._rise_from = self._read_to
        if ring.empty:
            block, self._piece = _faded_in(block, _FIRST), pos
        elif pos > ring.end or (pos == ring.end and self._end_was_read()):
            edge = JOIN if 0 < pos - ring.end < _SHORT_GAP else CROSSFADE
            self._fade_tail(CROSSFADE if self._end_was_read() else edge)
            block, self._piece = _faded_in(block, edge), pos
        elif pos < ring.end and pos != self._next:
            block = self._crossfaded(pos, block)
        ring.write(pos, self._risen(pos, block))
        self._next = pos + len(block)

    def read(self, pos: int, n: int) -> tuple[Pcm, int]:
        ring = self.ring
        samples, present = ring.read(pos, n)
        end, stop = ring.end, pos + n
        self._read_to = stop if self._read_to is None else max(self._read_to, stop)
        begin = end - CROSSFADE
        if stop > begin:
            self._faded_end = end
            first, last = max(pos, begin, self._piece), min(stop, end)
            if first < last and present:
                samples[first - pos : last - pos] *= linear_in(CROSSFADE)[::-1][first - begin : last - begin, None]
        return samples, present

    def read_s16le(self, pos: int, n: int) -> bytes:
        if pos + n > self.ring.end - CROSSFADE:
            return to_s16le(self.read(pos, n)[0])
        self._read_to = pos + n if self._read_to is None else max(self._read_to, pos + n)
        return self.ring.read_s16(pos, n).tobytes()

    def _end_was_read(self) -> bool:
        return self._faded_end == self.ring.end

    def _risen(self, pos: int, block: Pcm | S16) -> Pcm | S16:
        """The block, with what it holds of a rise that began in it or in one before."""
        if self._rise_from is None:
            return block
        begin, stop = self._rise_from, self._rise_from + CROSSFADE
        end = pos + len(block)
        if end >= stop:
            self._rise_from = None
        first, last = max(pos, begin), min(end, stop)
        if first < last:
            block = as_pcm(block).copy()
            block[first - pos : last - pos] *= linear_in(CROSSFADE)[first - begin : last - begin, None]
        return block

    def _fade_tail(self, n: int) -> None:
        held = min(n, self.ring.end - self._piece)
        tail, _ = self.ring.read(self.ring.end - held, held)
        # where a reader has heard it begin, the fade goes on as it began
        fall = linear_in(n if self._end_was_read() else held)[::-1][-held:] if held else tail[:, 0]
        self.ring.write(self.ring.end - held, tail * fall[:, None])

    def _crossfaded(self, pos: int, block: Pcm | S16) -> Pcm:
        n = min(JOIN, len(block), self.ring.end - pos)
        out = as_pcm(block).copy()
        out[:n] = join(self.ring.read(pos, n)[0], out[:n])
        return out


def _faded_in(block: Pcm | S16, n: int) -> Pcm:
    n = min(n, len(block))
    out = as_pcm(block).copy()
    out[:n] *= linear_in(n)[:, None]
    return out
