"""Where the sound of one connection follows that of another one that had it too. Pure.

Both have counted their samples from a timestamp that was rounded (FLV: to a millisecond), so the same sound lies up to
two milliseconds elsewhere in the second. Cut at a sample it would click: it is handed on from a crossfade's length
before the seam, and :class:`babelcast.audio.source.SourceAudio` crossfades what overlaps.
"""

from __future__ import annotations

from babelcast.audio.fade import JOIN

_FRAME_BYTES = 4


class Seam:
    """The first connection's sound ends at sample ``end``. State: the last 15 ms that came before it."""

    def __init__(self, end: int) -> None:
        self._end = end
        self._held = b""
        self._held_to = 0
        self.passed = False
        """Whatever comes now lies behind the seam."""

    def take(self, position: int, pcm: bytes) -> tuple[int, bytes]:
        """A block of the second connection (S16LE stereo): what is to be handed on of it, and where that begins."""
        stop = position + len(pcm) // _FRAME_BYTES
        if self._held_to == position:
            position, pcm = position - len(self._held) // _FRAME_BYTES, self._held + pcm
        if stop <= self._end:
            self._held, self._held_to = pcm[-JOIN * _FRAME_BYTES :], stop
            return stop, b""
        self.passed = True
        begin = self._end - JOIN
        if position > begin:
            begin = max(position, self._end + 1)  # too little for a crossfade: a sample's gap has both faded
        return begin, pcm[(begin - position) * _FRAME_BYTES :]
