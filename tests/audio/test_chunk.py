from __future__ import annotations

import numpy as np
import pytest

from babelcast.audio.chunk import Chunker
from babelcast.units import NS_PER_MS, NS_PER_S, Fragment, samples_to_ns

pytestmark = pytest.mark.unit

RATE = 16_000


def numbered(start: int, n: int) -> bytes:
    return (np.arange(start, start + n) % 30_000).astype("<i2").tobytes()


def chunker(channels: int = 1) -> Chunker:
    return Chunker("show", rate=RATE, channels=channels, fragment_ns=1_500 * NS_PER_MS, overlap_ns=150 * NS_PER_MS)


def run(blocks: list[int], start: int = 0) -> list[Fragment]:
    cut, out, at = chunker(), [], start
    for n in blocks:
        out += cut.push(samples_to_ns(at, RATE), numbered(at, n))
        at += n
    rest = cut.flush()
    return out + ([rest] if rest else [])


@pytest.mark.parametrize("block", [1, 7, 160, 1_600, 23_999, 24_000, 24_001, 100_000])
def test_every_sample_is_in_a_fragment_and_the_overlap_repeats(block: int) -> None:
    total = 3_000 if block == 1 else 100_000
    blocks = [block] * (total // block) + ([total % block] if total % block else [])
    fragments = run(blocks)
    covered = 0
    for i, fragment in enumerate(fragments):
        first = fragment.start_ns * RATE // NS_PER_S
        repeated = fragment.overlap_ns * RATE // NS_PER_S
        assert fragment.fragment_id == f"show-{i:06d}"
        assert fragment.sequence_number == i
        assert first == covered - repeated
        assert repeated == (2_400 if i else 0)
        assert fragment.pcm == numbered(first, len(fragment.pcm) // 2)
        assert fragment.duration_ns * RATE == len(fragment.pcm) // 2 * NS_PER_S
        covered = first + len(fragment.pcm) // 2
    assert covered == total
    assert all(len(fragment.pcm) == 48_000 for fragment in fragments[:-1])


def test_a_fragment_never_spans_a_gap() -> None:
    cut = chunker()
    assert cut.push(0, numbered(0, 30_000))[0].duration_ns == 1_500 * NS_PER_MS
    before, *after = cut.push(10 * NS_PER_S, numbered(160_000, 24_000))
    assert (before.start_ns, before.end_ns) == (1_350 * NS_PER_MS, samples_to_ns(30_000, RATE))
    assert [(f.start_ns, f.overlap_ns, len(f.pcm)) for f in after] == [(10 * NS_PER_S, 0, 48_000)]
    assert after[0].pcm == numbered(160_000, 24_000)
    assert [before.sequence_number, after[0].sequence_number] == [1, 2]


def test_a_source_that_goes_back_starts_anew() -> None:
    cut = chunker()
    cut.push(5 * NS_PER_S, numbered(0, 8_000))
    [rest] = cut.push(0, numbered(0, 8_000))
    assert rest.start_ns == 5 * NS_PER_S
    last = cut.flush()
    assert last is not None and last.start_ns == 0


def test_jitter_below_the_tolerance_is_no_gap() -> None:
    cut = chunker()
    out = []
    for i in range(40):
        out += cut.push(i * 100 * NS_PER_MS + (i % 3) * NS_PER_MS, numbered(i * 1_600, 1_600))
    assert [f.start_ns for f in out] == [0, 1_350 * NS_PER_MS]


def test_what_was_only_repeated_is_not_flushed() -> None:
    cut = chunker()
    assert len(cut.push(0, numbered(0, 24_000))) == 1
    assert cut.flush() is None
    assert cut.flush() is None


def test_stereo_is_cut_between_sample_frames() -> None:
    cut = chunker(channels=2)
    fragments = cut.push(0, numbered(0, 2 * 24_000))
    assert len(fragments) == 1 and len(fragments[0].pcm) == 96_000
    with pytest.raises(ValueError, match="whole number"):
        cut.push(0, b"\0\0")


def test_an_overlap_as_long_as_the_fragment_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Chunker("show", rate=RATE, channels=1, fragment_ns=NS_PER_S, overlap_ns=NS_PER_S)
