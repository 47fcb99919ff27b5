"""What the measurement finds: ``report.json`` is a :class:`Report`, the page is drawn from it and :class:`Evidence`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from babelcast.demo.recording import Sound
from babelcast.demo.sound import LevelCurve


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Gate(_Model):
    """One figure against its limit. ``passed`` is None when it could not be measured; ``note`` says why."""

    figure: str
    title: str
    value: float | bool | None
    unit: str
    limit: str
    passed: bool | None
    note: str = ""


class SegmentRow(_Model):
    """A dubbed segment. Times in seconds of the dubbed recording, counted from its first picture.

    ``source_start_s`` and ``source_end_s``: when the pictures of its source are shown. ``found_s``: where the
    phrase was heard, from outside. ``placed_s``: where the journal says that it is.
    """

    sequence: int
    transcript: str
    translation: str
    source_start_s: float
    source_end_s: float
    placed_s: float | None
    found_s: float | None
    duration_s: float
    tempo: float
    lag_s: float
    offset_s: float | None
    match: float | None
    repeats: int


class SentenceRow(_Model):
    """A sentence of the clip; times as in :class:`SegmentRow`."""

    text: str
    voice: str
    start_s: float
    end_s: float
    dubbed: bool
    before_start: bool
    lag_s: float | None


class SyncRow(_Model):
    at_s: float
    offset_ms: float


class Report(_Model):
    """``report.json``. A figure that could not be measured is null and ``reasons`` names why."""

    passed: bool
    gates: tuple[Gate, ...]
    reasons: dict[str, str]

    dub_segments: int
    dub_segments_found: int | None
    dub_lag_p50_s: float | None
    dub_lag_p95_s: float | None
    dub_offset_p50_s: float | None
    dub_offset_p95_s: float | None
    sentences: int | None
    """Sentences that began after the first picture that arrived; those before it are in the next figure."""
    sentences_before_start: int | None
    sentences_dubbed_ratio: float | None
    dub_out_of_order: int | None
    dub_repeated: int | None
    dub_overlapping: int | None
    journal_placement_error_ms: float | None
    """How far the journal's places are from what was found outside, worst."""

    av_offset_ms_median: float | None
    av_offset_ms_worst: float | None
    av_pairs: int
    av_flashes: int

    video_identical: bool | None
    video_compared: int
    video_missing: int
    video_altered: int
    video_first_mismatch: int | None
    video_jitter_ms: float | None

    first_output_s: float | None
    """From the start of the publisher to the first key frame at the third party, wall clock."""
    start_lost_s: float | None
    """How much of the source was over before the first picture that arrived: what each reader misses on joining."""
    fallback_seconds: float | None
    silent_gap_max_s: float | None
    audio_gaps: int
    output_seconds: float
    original_seconds: float
    loudness_original_lufs: float | None
    loudness_dubbed_lufs: float | None
    loudness_dub_speech_lufs: float | None
    loudness_background_lufs: float | None
    original_speech_left_db: float | None
    background_kept_db: float | None

    media_server: str
    backend: str
    source_language: str
    target_language: str
    delay_s: float
    """The delay D that the worker was set to."""
    machine: dict[str, str]
    versions: dict[str, str]
    segments: tuple[SegmentRow, ...]
    sentence_rows: tuple[SentenceRow, ...]
    av: tuple[SyncRow, ...]


@dataclass(frozen=True)
class Evidence:
    """What is only drawn. ``origin_s`` is the dubbed recording's time of its first picture; ``shift_s`` + the
    original recording's time = the dubbed one's. The paths are FLV."""

    original: Path
    dubbed: Path
    original_sound: Sound
    dubbed_sound: Sound
    origin_s: float
    shift_s: float
    levels_original: dict[str, LevelCurve]
    levels_dubbed: dict[str, LevelCurve]
