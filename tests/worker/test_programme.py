"""A programme on a virtual clock: what is pushed when, and what is heard."""

from __future__ import annotations

import numpy as np
import pytest

from babelcast.audio.fallback import FallbackCause, FallbackMode
from babelcast.audio.mix import MixSettings
from babelcast.audio.pcm import from_s16le
from babelcast.audio.source import SourceAudio
from babelcast.captions.cues import OnAirMark, broadcasts
from babelcast.captions.track import CaptionTrack
from babelcast.spec import SegmentEntry
from babelcast.units import NS_PER_MS, NS_PER_S, RATE, AccessUnit, DubSegment, Pcm, ns_to_samples
from babelcast.worker.metrics import WorkerMetrics
from babelcast.worker.programme import Programme

pytestmark = pytest.mark.unit

AIR_OFFSET = 1_000 * NS_PER_S
TICK = 40 * NS_PER_MS


class Recorder:
    """Implements Destination: keeps what is pushed."""

    def __init__(self) -> None:
        self.units: list[AccessUnit] = []
        self.blocks: list[tuple[int, Pcm]] = []

    def expect_video(self, caps: str) -> None: ...

    def push_video(self, units: list[AccessUnit], air_offset_ns: int) -> None:
        assert air_offset_ns == AIR_OFFSET
        self.units += units

    def push_audio(self, position: int, pcm: bytes, air_offset_ns: int, *, video_expected: bool) -> None:
        self.blocks.append((position, from_s16le(pcm, 2)))

    @property
    def sound(self) -> Pcm:
        return np.concatenate([block for _, block in self.blocks])


class FakeDubbing:
    """What a programme asks of Dubbing."""

    def __init__(self) -> None:
        self.watermark_ns = 0
        self.closed: str | None = None
        self.lost: list[tuple[int, int]] = []


def build(
    by_cause: dict[FallbackCause, FallbackMode] | None = None, began_unix_s: float | None = None
) -> tuple[Programme, Recorder, SourceAudio, list[SegmentEntry]]:
    source, recorder, entries = SourceAudio(20.0), Recorder(), list[SegmentEntry]()
    programme = Programme(
        "es",
        source,
        recorder,
        delay_ns=4 * NS_PER_S,
        mix=MixSettings(),
        fallback="original",
        fallback_by_cause=by_cause,
        metrics=WorkerMetrics(),
        lag_s=lambda source_ns: 3.0,
        on_entry=entries.append,
        air_unix_s=lambda source_ns: None if began_unix_s is None else began_unix_s + source_ns / NS_PER_S,
    )
    return programme, recorder, source, entries


def noise(seconds: float, seed: int = 0) -> Pcm:
    return np.random.default_rng(seed).uniform(-0.2, 0.2, (round(seconds * RATE), 2)).astype(np.float32)


def advance(programme: Programme, until_s: float, start_s: float = 0.0) -> None:
    for due in range(round(start_s * NS_PER_S), round(until_s * NS_PER_S) + 1, TICK):
        programme.advance(due, AIR_OFFSET, video_expected=False)


def segment(start_s: float, seconds: float = 1.0) -> DubSegment:
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)
    start = round(start_s * NS_PER_S)
    return DubSegment("s", 0, start, start + NS_PER_S, tone.astype(np.float32), RATE, "one", "uno", "voice")


def test_bypass_is_the_original_sample_for_sample() -> None:
    programme, recorder, source, _ = build()
    original = noise(3.0)
    source.write_original(0, original)
    advance(programme, 2.0)
    assert [position for position, _ in recorder.blocks] == [i * 4_800 for i in range(21)]
    heard = recorder.sound
    # behind the 5 ms fade at the beginning, to the rounding of 16 bits
    assert np.abs(heard[300:] - original[300 : len(heard)]).max() < 1 / 32_000


def test_pictures_leave_when_they_are_due_and_never_wait_for_sound() -> None:
    programme, recorder, _, _ = build()
    for i in range(100):
        programme.video.put(AccessUnit(i * TICK, i * TICK, i % 25 == 0, b"picture", "caps"))
    advance(programme, 2.0)
    assert [unit.dts_ns for unit in recorder.units] == [i * TICK for i in range(51)]
    assert not recorder.sound.any()


def test_a_segment_is_heard_where_its_source_was_spoken() -> None:
    programme, recorder, source, entries = build()
    programme.dubbing = FakeDubbing()  # type: ignore[assignment]
    programme.dubbing.watermark_ns = 1 << 60  # type: ignore[union-attr]
    quiet = np.zeros((6 * RATE, 2), np.float32)
    source.write_original(0, quiet)
    source.write_background(0, quiet)
    advance(programme, 0.5)
    programme.take_segment(segment(2.0))
    advance(programme, 5.0, 0.54)
    loud = np.flatnonzero(np.abs(recorder.sound[:, 0]) > 0.01)
    assert loud[0] == pytest.approx(2 * RATE, abs=RATE // 100)
    assert loud[-1] == pytest.approx(3 * RATE, abs=RATE // 100)
    (entry,) = entries
    assert ns_to_samples(entry.placed_ns or 0) == 2 * RATE
    assert (entry.sequence, entry.dub_lag_s, entry.dub_offset_s) == (0, 3.0, 0.0)
    assert (entry.transcript, entry.translation) == ("one", "uno")


def test_without_a_backend_the_fallback_is_on_air_and_ends_with_the_first_segment() -> None:
    programme, recorder, source, _ = build()
    dubbing = FakeDubbing()
    dubbing.closed = "closed"
    programme.dubbing = dubbing  # type: ignore[assignment]
    original = noise(8.0)
    source.write_original(0, original)
    source.write_background(0, np.zeros_like(original))
    advance(programme, 3.0)
    before = programme.fallback, programme.fallback_cause
    assert np.sqrt(np.mean(np.square(recorder.sound[RATE : 2 * RATE]))) > 0.1
    dubbing.closed = None
    dubbing.watermark_ns = 8 * NS_PER_S
    programme.take_segment(segment(4.0))
    advance(programme, 6.0, 3.04)
    assert before == ("original", "closed")
    assert (programme.fallback, programme.fallback_cause) == (None, None)
    assert programme.fallback_seconds == pytest.approx(3.5, abs=0.6)
    # the background, which is silent here, is what goes with the dub
    assert np.abs(recorder.sound[round(5.3 * RATE) : round(5.9 * RATE)]).max() < 0.01


def test_a_lost_span_is_not_passed_over_in_silence() -> None:
    programme, _recorder, source, _ = build()
    dubbing = FakeDubbing()
    dubbing.watermark_ns = 1 << 60
    dubbing.lost.append((2 * NS_PER_S, 4 * NS_PER_S))
    programme.dubbing = dubbing  # type: ignore[assignment]
    source.write_original(0, noise(8.0))
    source.write_background(0, np.zeros((8 * RATE, 2), np.float32))
    advance(programme, 1.9)
    modes = [programme.fallback]
    advance(programme, 3.0, 1.94)
    modes.append(programme.fallback)
    advance(programme, 6.0, 3.04)
    assert [*modes, programme.fallback] == [None, "original", None]


def force(programme: Programme, mode: FallbackMode | None, mix: MixSettings | None = None) -> None:
    programme.take_controls(mode, "original", {}, mix or MixSettings())


def hum(seconds: float) -> Pcm:
    """A sine whose every step is small, so that a jump would be heard, and found."""
    tone = 0.2 * np.sin(2 * np.pi * 100 * np.arange(round(seconds * RATE)) / RATE)
    return np.repeat(tone[:, None], 2, axis=1).astype(np.float32)


def largest_step(sound: Pcm) -> float:
    return float(np.abs(np.diff(sound[RATE // 10 :, 0])).max())


def test_the_operators_choice_is_on_air_with_the_next_block_and_is_given_back() -> None:
    programme, recorder, source, _ = build()
    dubbing = FakeDubbing()
    dubbing.watermark_ns = 1 << 60
    programme.dubbing = dubbing  # type: ignore[assignment]
    source.write_original(0, hum(8.0))
    source.write_background(0, np.zeros((8 * RATE, 2), np.float32))
    advance(programme, 2.0)
    force(programme, "original")
    asked_at = programme.position
    advance(programme, 4.0, 2.04)
    assert (programme.fallback, programme.fallback_cause) == ("original", "operator")
    assert programme.fallback_seconds == pytest.approx(1.9, abs=0.11)
    force(programme, None)
    advance(programme, 6.0, 4.04)
    assert (programme.fallback, programme.fallback_cause) == (None, None)
    sound = recorder.sound
    assert not sound[RATE:asked_at].any()
    heard = np.abs(sound[asked_at + RATE // 10 : asked_at + RATE]).max()
    assert heard == pytest.approx(0.2, abs=0.01)
    assert not sound[-RATE:].any()
    assert largest_step(sound) < 0.004  # the sine's own is 0.0026: no click


def test_what_the_policy_found_under_the_operators_choice_is_in_force_after_it() -> None:
    programme, _, source, _ = build({"breaker": "silence"})
    dubbing = FakeDubbing()
    dubbing.closed = "breaker"
    programme.dubbing = dubbing  # type: ignore[assignment]
    source.write_original(0, hum(8.0))
    advance(programme, 1.0)
    assert (programme.fallback, programme.fallback_cause) == ("silence", "breaker")
    programme.take_controls("background", "original", {"breaker": "silence"}, MixSettings())
    advance(programme, 2.0, 1.04)
    assert (programme.fallback, programme.fallback_cause) == ("background", "operator")
    programme.take_controls(None, "original", {"breaker": "ducked"}, MixSettings())
    advance(programme, 3.0, 2.04)
    assert (programme.fallback, programme.fallback_cause) == ("ducked", "breaker")


def test_gains_change_on_air_without_a_click() -> None:
    programme, recorder, source, _ = build()
    dubbing = FakeDubbing()
    dubbing.watermark_ns = 1 << 60
    programme.dubbing = dubbing  # type: ignore[assignment]
    source.write_original(0, hum(8.0))
    source.write_background(0, hum(8.0))
    advance(programme, 2.0)
    force(programme, None, MixSettings(bg_gain=0.25))
    advance(programme, 4.0, 2.04)
    sound = recorder.sound
    assert np.abs(sound[RATE : 2 * RATE]).max() == pytest.approx(0.2, abs=0.01)
    assert np.abs(sound[3 * RATE :]).max() == pytest.approx(0.05, abs=0.01)
    assert largest_step(sound) < 0.004


def test_a_bypass_is_silenced_and_opened_again_without_a_click() -> None:
    programme, recorder, source, _ = build()
    source.write_original(0, hum(8.0))
    advance(programme, 2.0)
    force(programme, "silence")
    advance(programme, 4.0, 2.04)
    assert (programme.fallback, programme.fallback_cause) == ("silence", "operator")
    force(programme, None)
    advance(programme, 6.0, 4.04)
    assert programme.fallback is None
    sound = recorder.sound
    assert not sound[3 * RATE : 4 * RATE].any()
    assert np.abs(sound[5 * RATE :]).max() == pytest.approx(0.2, abs=0.01)
    assert largest_step(sound) < 0.004


def heard_at(sound: Pcm) -> float:
    return float(np.flatnonzero(np.abs(sound[:, 0]) > 0.01)[0]) / RATE


@pytest.mark.parametrize("late_s", [0.0, 1.5])
def test_a_caption_begins_when_its_dub_is_heard(late_s: float) -> None:
    """In Unix time, and so on any clock: what comes late is captioned late."""
    programme, recorder, source, entries = build(began_unix_s=1_795_000_000.0)
    programme.dubbing = FakeDubbing()  # type: ignore[assignment]
    programme.dubbing.watermark_ns = 1 << 60  # type: ignore[union-attr]
    source.write_original(0, np.zeros((8 * RATE, 2), np.float32))
    source.write_background(0, np.zeros((8 * RATE, 2), np.float32))
    advance(programme, 2.0 + late_s - 0.5)
    programme.take_segment(segment(2.0 if not late_s else 1.5))
    advance(programme, 7.0, 2.0 + late_s - 0.46)
    (found,) = broadcasts([OnAirMark(began_unix_s=1_795_000_000.0, source_language="en", languages=("es",))], entries)
    (cue,) = found.cues("es")
    assert cue.start_s == pytest.approx(heard_at(recorder.sound), abs=0.1)
    (said,) = found.cues("en")
    assert said.start_s == (1.5 if late_s else 2.0)


def test_captions_are_in_the_pictures_before_they_are_heard_and_only_where_they_are_wanted() -> None:
    made: list[list[AccessUnit]] = []
    for wanted in (False, True):
        programme, recorder, source, entries = build()
        programme.dubbing = FakeDubbing()  # type: ignore[assignment]
        programme.dubbing.watermark_ns = 1 << 60  # type: ignore[union-attr]
        if wanted:
            programme.captions = track = CaptionTrack("es", own="es", source="en")
        quiet = np.zeros((6 * RATE, 2), np.float32)
        source.write_original(0, quiet)
        source.write_background(0, quiet)
        caps = "video/x-h264, codec_data=(buffer)01640028ffe1"
        for i in range(100):
            programme.video.put(AccessUnit(i * TICK, i * TICK, i % 25 == 0, b"\0\0\0\x08\x65picture", caps))
        advance(programme, 0.5)
        programme.take_segment(segment(1.0))
        for due in range(540 * NS_PER_MS, 3 * NS_PER_S, TICK):
            programme.advance(due, AIR_OFFSET, video_expected=True)
            while wanted and entries:
                track.take(entries.pop())
        made.append(recorder.units)
    plain, captioned = made
    assert all(unit.data == b"\0\0\0\x08\x65picture" for unit in plain)
    assert [unit.pts_ns for unit in captioned] == [unit.pts_ns for unit in plain]
    code = bytes((0xFC, 0x94, 0x25))  # roll-up of two lines
    first = next(unit.pts_ns for unit in captioned if code in unit.data)
    assert first == NS_PER_S, "with the picture at which the dub begins"
