"""When source time is on air: the delay, and its slow change while the programme runs. Pure.

The delay is a function of source time. It is constant, or on its way to another value by 30 ms a second: pictures
are shown 3 % slower or faster meanwhile, and sound is stretched by as much, its pitch unchanged
(:func:`babelcast.audio.retime.splice`). Nothing is repeated, skipped or restarted.
"""

from __future__ import annotations

from babelcast.audio.pcm import from_s16le, to_s16le
from babelcast.audio.retime import most_by_resampling, resample, splice
from babelcast.units import CHANNELS, RATE, AccessUnit, ns_to_samples, samples_to_ns
from babelcast.worker.programme import Destination

SLEW_PPM = 30_000
_SPLICE_FROM = RATE // 100
"""Sound is at most this much (10 ms), and the length of one splice, off its pictures while the delay changes."""
_ROUNDING = 2
_BYTES = 2 * CHANNELS


class AirClock:
    """Source time → time on air, both counted from the epoch (the wall time of source time 0).

    State: one ramp of the delay, from ``(t0, d0)`` to ``(t1, d1)``; constant before and after it.
    """

    def __init__(self, delay_ns: int) -> None:
        self._t0 = self._t1 = 0
        self._d0 = self._d1 = delay_ns
        self._playhead_ns: int | None = None

    @property
    def delay_ns(self) -> int:
        """In force at what was sent last."""
        return self._d1 if self._playhead_ns is None else self.delay_at(self._playhead_ns)

    @property
    def target_delay_ns(self) -> int:
        return self._d1

    @property
    def changing(self) -> bool:
        return self.delay_ns != self._d1

    def set_delay(self, delay_ns: int) -> None:
        """Go there from what was sent last, however far a change before it has come."""
        if self._playhead_ns is None:
            self._d0 = self._d1 = delay_ns
            return
        self._d0, self._t0 = self.delay_ns, self._playhead_ns
        self._d1 = delay_ns
        self._t1 = self._t0 + abs(self._d1 - self._d0) * 1_000_000 // SLEW_PPM

    def delay_at(self, source_ns: int) -> int:
        if source_ns >= self._t1:
            return self._d1
        if source_ns <= self._t0:
            return self._d0
        return self._d0 + (self._d1 - self._d0) * (source_ns - self._t0) // (self._t1 - self._t0)

    def due(self, now_ns: int) -> int:
        """Source time that is on air ``now_ns`` after the epoch. What is sent now is sent for good: later changes
        begin from there."""
        began, ended = self._t0 + self._d0, self._t1 + self._d1
        if now_ns >= ended:
            source_ns = now_ns - self._d1
        elif now_ns <= began:
            source_ns = now_ns - self._d0
        else:
            source_ns = self._t0 + (now_ns - began) * (self._t1 - self._t0) // (ended - began)
        self._playhead_ns = source_ns
        return source_ns


class OnAir:
    """A destination behind an :class:`AirClock`: what is pushed at a distance to the epoch goes on at its delay.

    Implements Destination, for a programme whose offset is the epoch. While the delay stands still, everything is
    handed on as it is.
    """

    def __init__(self, destination: Destination, air: AirClock) -> None:
        self._destination = destination
        self._air = air
        self._cursor: int | None = None  # sample on air, counted from the epoch, at which the next block begins
        self._position = 0

    @property
    def sound_off_ns(self) -> int:
        """How far sound is early (+) against its pictures at the end of what was pushed last."""
        return 0 if self._cursor is None else samples_to_ns(self._owed(self._position))

    def expect_video(self, caps: str) -> None:
        self._destination.expect_video(caps)

    def push_video(self, units: list[AccessUnit], air_offset_ns: int) -> None:
        if not units:
            return
        delay_ns = self._air.delay_at(units[0].dts_ns)
        if delay_ns == self._air.delay_at(units[-1].dts_ns):
            self._destination.push_video(units, air_offset_ns + delay_ns)
            return
        for unit in units:
            self._destination.push_video([unit], air_offset_ns + self._air.delay_at(unit.dts_ns))

    def push_audio(self, position: int, pcm: bytes, air_offset_ns: int, *, video_expected: bool) -> None:
        if self._cursor is None or position != self._position:
            self._cursor = self._due(position)
        self._position = position + len(pcm) // _BYTES
        start_ns = samples_to_ns(self._cursor)
        self._cursor += len(pcm) // _BYTES
        retimed = self._retimed(pcm)
        self._cursor += (len(retimed) - len(pcm)) // _BYTES
        offset_ns = air_offset_ns + start_ns - samples_to_ns(position)
        self._destination.push_audio(position, retimed, offset_ns, video_expected=video_expected)

    def _due(self, position: int) -> int:
        source_ns = samples_to_ns(position)
        return ns_to_samples(source_ns + self._air.delay_at(source_ns))

    def _owed(self, position: int) -> int:
        """Samples by which sound, once it got to ``position``, is ahead of where it should be."""
        assert self._cursor is not None
        return self._due(position) - self._cursor

    def _retimed(self, pcm: bytes) -> bytes:
        owed = self._owed(self._position)
        if abs(owed) <= _ROUNDING:
            return pcm
        if abs(owed) >= _SPLICE_FROM:
            return to_s16le(splice(from_s16le(pcm, CHANNELS), owed))
        if self._air.changing:
            return pcm  # soon enough for a splice
        most = most_by_resampling(len(pcm) // _BYTES)
        return to_s16le(resample(from_s16le(pcm, CHANNELS), max(-most, min(most, owed))))
