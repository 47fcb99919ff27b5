"""Cuts the source into fragments: the unit of bookkeeping, of the REST contract and of fallback decisions."""

from __future__ import annotations

from babelcast.units import NS_PER_MS, Fragment, ns_to_samples, samples_to_ns

GAP_NS = 10 * NS_PER_MS
"""A block that starts this far from where it is expected starts anew."""


class Chunker:
    """Blocks of any size in, fragments of ``fragment_ns`` out; each repeats the last ``overlap_ns`` of the one before.

    The first fragment, and the first after a gap, repeat nothing. A fragment never spans a gap: what lies before
    it leaves as a shorter fragment. Sample counts are exact: fragment times come from a running count.
    """

    def __init__(
        self,
        stream_id: str,
        *,
        rate: int,
        channels: int,
        fragment_ns: int = 1_500 * NS_PER_MS,
        overlap_ns: int = 150 * NS_PER_MS,
    ) -> None:
        if not 0 <= overlap_ns < fragment_ns:
            raise ValueError("the overlap must be shorter than the fragment")
        self._stream_id = stream_id
        self._rate = rate
        self._channels = channels
        self._frame_bytes = 2 * channels
        self._length = ns_to_samples(fragment_ns, rate)
        self._overlap = ns_to_samples(overlap_ns, rate)
        self._sequence = 0
        self._anchor_ns = 0
        self._first = 0  # samples from the anchor to the start of the buffer
        self._repeated = 0  # how many samples at the start of the buffer were in the fragment before
        self._buffer = bytearray()

    @property
    def next_sequence(self) -> int:
        return self._sequence

    def push(self, start_ns: int, pcm: bytes | memoryview) -> list[Fragment]:
        """Take a block of interleaved S16LE that starts at ``start_ns``; return the fragments that it completes.

        Raises ValueError where ``pcm`` doesn't hold whole sample frames.
        """
        if len(pcm) % self._frame_bytes:
            raise ValueError(f"{len(pcm)} bytes are no whole number of {self._channels}-channel sample frames")
        done: list[Fragment] = []
        if not self._buffer:
            self._anchor(start_ns)
        elif abs(start_ns - self._expected_ns()) > GAP_NS:
            rest = self.flush()
            if rest is not None:
                done.append(rest)
            self._anchor(start_ns)
        self._buffer += pcm
        while len(self._buffer) >= self._length * self._frame_bytes:
            done.append(self._cut(self._length))
        return done

    def flush(self) -> Fragment | None:
        """What is left as a last, shorter fragment; None where nothing new is left. The next push starts anew."""
        count = len(self._buffer) // self._frame_bytes
        rest = self._cut(count) if count > self._repeated else None
        self._buffer.clear()
        self._repeated = 0
        return rest

    def _anchor(self, start_ns: int) -> None:
        self._anchor_ns = start_ns
        self._first = 0
        self._repeated = 0

    def _expected_ns(self) -> int:
        return self._anchor_ns + samples_to_ns(self._first + len(self._buffer) // self._frame_bytes, self._rate)

    def _cut(self, count: int) -> Fragment:
        start_ns = self._anchor_ns + samples_to_ns(self._first, self._rate)
        end_ns = self._anchor_ns + samples_to_ns(self._first + count, self._rate)
        fragment = Fragment(
            fragment_id=f"{self._stream_id}-{self._sequence:06d}",
            stream_id=self._stream_id,
            sequence_number=self._sequence,
            start_ns=start_ns,
            duration_ns=end_ns - start_ns,
            overlap_ns=samples_to_ns(self._repeated, self._rate),
            pcm=bytes(self._buffer[: count * self._frame_bytes]),
            rate=self._rate,
            channels=self._channels,
        )
        self._sequence += 1
        step = max(count - self._overlap, 0)
        del self._buffer[: step * self._frame_bytes]
        self._first += step
        self._repeated = count - step
        return fragment
