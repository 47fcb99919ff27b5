"""The demo's figures, measured from outside: on what was published, and on what arrived at the third party.

What the program says of itself is used for three things only: the journal's texts, voices and tempi (so that each
phrase can be spoken again and looked for), the dub lag (a wall-clock time that no recording holds), and the
seconds of fallback.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from babelcast.demo import gates, sound, sync, video
from babelcast.demo.clip import ClipManifest, read_wav, stem_paths
from babelcast.demo.lineage import Lineage, covered, find_lineage, first_segment, spoken_twice
from babelcast.demo.machine import machine, versions
from babelcast.demo.phrases import Phrase, Speak, espeak_again, find_phrases, out_of_order, overlaps
from babelcast.demo.recording import Recording, Sound, as_flv, decode_sound, read_recording
from babelcast.demo.result import Evidence, Report, SegmentRow, SentenceRow, SyncRow
from babelcast.errors import BabelcastError
from babelcast.spec import SegmentEntry
from babelcast.units import NS_PER_S


@dataclass(frozen=True)
class Inputs:
    """``original``: recording of what was published. ``dubbed``: recording at the third party. ``clip``: the file
    that was published. ``entries``: the segment journal. The rest is what the run itself knows."""

    original: Path
    dubbed: Path
    clip: Path
    entries: tuple[SegmentEntry, ...]
    media_server: str
    backend: str = "sts"
    source_language: str = "en"
    target_language: str = "es"
    delay_s: float = 6.0
    fallback_seconds: float | None = None
    first_output_s: float | None = None
    speak: Speak = field(default=espeak_again)


@dataclass
class _Work:
    """What the steps find out, one after the other."""

    inputs: Inputs
    original: Recording
    dubbed: Recording
    manifest: ClipManifest | None
    entries: tuple[SegmentEntry, ...]
    reasons: dict[str, str] = field(default_factory=dict)
    from_original: video.TimeMap | None = None
    from_clip: video.TimeMap | None = None
    lineage: Lineage | None = None
    phrases: list[Phrase] | None = None

    @property
    def origin_s(self) -> float:
        times = [unit.pts_ms for unit in self.dubbed.video] or [at for at, _ in self.dubbed.audio]
        return min(times) / 1_000


def read_journal(path: Path) -> tuple[SegmentEntry, ...]:
    """The entries of ``segments.<lang>.jsonl``, () when there is none; a half-written last line is left out."""
    entries = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            entries.append(SegmentEntry.model_validate_json(line))
        except ValueError:
            continue
    return tuple(entries)


def measure(inputs: Inputs) -> tuple[Report, Evidence]:
    """All figures. Raises BabelcastError when a recording can't be read.

    The evidence refers to ``inputs.original`` and ``inputs.dubbed`` where those are FLV.
    """
    with tempfile.TemporaryDirectory(prefix="babelcast-measure-") as name, ThreadPoolExecutor(2) as pool:
        folder = Path(name)
        original = read_recording(as_flv(inputs.original, folder))
        dubbed = read_recording(as_flv(inputs.dubbed, folder))
        manifest = ClipManifest.beside(inputs.clip)
        entries = tuple(sorted(inputs.entries, key=lambda entry: entry.sequence))
        work = _Work(inputs, original, dubbed, manifest, entries)
        flashes = pool.submit(sync.find_flashes, dubbed.path, manifest.flash_box) if manifest else None
        original_sound = pool.submit(_heard, original)
        dubbed_sound = decode_sound(dubbed)
        compared = video.compare(original.video, dubbed.video)
        work.from_original = video.time_map(original.video, dubbed.video, compared)
        _map_clip(work, folder)
        _find_dub(work, dubbed_sound)
        avs = sync.measure_sync(dubbed_sound, flashes.result() if flashes else [])
        report = _report(work, compared, avs, dubbed_sound, original_sound.result())
        return report, _evidence(work, original_sound.result(), dubbed_sound)


def _heard(recording: Recording) -> Sound:
    """Decoded, and its loudness worked out while the other recording is looked at."""
    heard = decode_sound(recording)
    sound.loudness(heard)
    return heard


def _map_clip(work: _Work, folder: Path) -> None:
    """From the clip's clock to the dubbed recording's, by the pictures that both show."""
    if work.manifest is None:
        work.reasons["sentences_dubbed_ratio"] = "the input is not the demo's own clip: what was said when is not known"
        work.reasons["av_offset_ms_median"] = "the input is not the demo's own clip: it has no flashes and ticks"
        return
    clip = read_recording(as_flv(work.inputs.clip, folder))
    # the remux may have moved the whole clip (negative start of the AAC track): its first picture is at 0 s
    first = min(unit.pts_ms for unit in clip.video) / 1_000
    mapped = video.time_map(clip.video, work.dubbed.video, video.compare(clip.video, work.dubbed.video))
    if mapped is None:
        work.reasons["dub_offset_p50_s"] = "no picture of the clip is in the dubbed recording"
        return
    work.from_clip = video.TimeMap(mapped.source_s - first, mapped.target_s)
    work.lineage = find_lineage(work.entries, work.manifest.sentences)


def _find_dub(work: _Work, heard: Sound) -> None:
    """Look for every phrase of the journal in the dubbed recording."""
    if not work.entries:
        work.reasons["dub_segments_found"] = "the journal holds no segment"
        return
    try:
        work.phrases = find_phrases(work.entries, heard, lambda entry: _expected(work, entry), work.inputs.speak)
    except BabelcastError as error:
        work.reasons["dub_segments_found"] = str(error)


def _expected(work: _Work, entry: SegmentEntry) -> float:
    """Roughly where ``entry`` should be heard, on the dubbed recording's clock."""
    at = (entry.placed_ns if entry.placed_ns is not None else entry.source_start_ns) / NS_PER_S
    if work.lineage is not None and work.from_clip is not None:
        return work.from_clip(at + work.lineage.origin_s)
    return work.origin_s + at


def _report(work: _Work, compared: video.Comparison, avs: sync.SyncResult, heard: Sound, published: Sound) -> Report:
    inputs = work.inputs
    segments, sentences = _segment_rows(work), _sentence_rows(work)
    figures = {
        **_dub_figures(work, segments, sentences),
        **_picture_figures(work, compared),
        **_sound_figures(work, heard, published),
        "av_offset_ms_median": _rounded(avs.median_ms, 1),
        "av_offset_ms_worst": _rounded(avs.worst_ms, 1),
        "av_pairs": len(avs.pairs),
        "av_flashes": avs.flashes,
        "first_output_s": _rounded(inputs.first_output_s, 2),
        "start_lost_s": _start_lost(work),
        "fallback_seconds": _rounded(inputs.fallback_seconds, 2),
        "output_seconds": round(work.dubbed.seconds, 2),
        "original_seconds": round(work.original.seconds, 2),
    }
    if work.manifest is not None and not avs.pairs:
        work.reasons["av_offset_ms_median"] = "no flash with its tick was found in the dubbed recording"
    if inputs.first_output_s is None:
        work.reasons["first_output_s"] = "only a live run knows it"
    checked = gates.check(figures, work.reasons, inputs.delay_s, _published_s(work))
    return Report.model_validate(
        {
            **figures,
            "passed": gates.verdict(checked),
            "gates": checked,
            "reasons": work.reasons,
            "media_server": inputs.media_server,
            "backend": inputs.backend,
            "source_language": inputs.source_language,
            "target_language": inputs.target_language,
            "delay_s": inputs.delay_s,
            "machine": machine(),
            "versions": versions(),
            "segments": segments,
            "sentence_rows": sentences,
            "av": [
                SyncRow(at_s=round(p.flash_s - work.origin_s, 3), offset_ms=round(p.offset_ms, 2)) for p in avs.pairs
            ],
        }
    )


def _dub_figures(work: _Work, segments: list[SegmentRow], sentences: list[SentenceRow]) -> dict[str, object]:
    counted = [row for row in sentences if not row.before_start]
    lags = [row.lag_s for row in counted if row.lag_s is not None] or [row.lag_s for row in segments]
    offsets = [row.offset_s for row in segments if row.offset_s is not None]
    return {
        "dub_segments": sum(entry.placed_ns is not None for entry in work.entries),
        "dub_segments_found": None if work.phrases is None else len(_heard_spans(work)),
        "dub_lag_p50_s": _percentile(lags, 50),
        "dub_lag_p95_s": _percentile(lags, 95),
        "dub_offset_p50_s": _percentile(offsets, 50),
        "dub_offset_p95_s": _percentile(offsets, 95),
        "sentences": len(counted) if work.manifest else None,
        "sentences_before_start": len(sentences) - len(counted) if work.manifest else None,
        "sentences_dubbed_ratio": round(float(np.mean([row.dubbed for row in counted])), 3) if counted else None,
        "dub_out_of_order": None if work.phrases is None else out_of_order(work.phrases),
        "dub_repeated": _repeated(work),
        "dub_overlapping": None if work.phrases is None else overlaps(work.phrases),
        "journal_placement_error_ms": _placement_error(work),
    }


def _picture_figures(work: _Work, compared: video.Comparison) -> dict[str, object]:
    both = bool(work.dubbed.video and work.original.video)
    if not both:
        work.reasons["video_identical"] = "one of the recordings has no pictures"
    return {
        "video_identical": compared.identical if both else None,
        "video_compared": compared.compared,
        "video_missing": compared.missing,
        "video_altered": compared.altered,
        "video_first_mismatch": compared.first_mismatch,
        "video_jitter_ms": round(compared.jitter_ms, 1) if compared.pairs else None,
    }


def _sound_figures(work: _Work, heard: Sound, published: Sound) -> dict[str, object]:
    start, spans, left = work.origin_s, _heard_spans(work), _remains(work, heard)
    gap = sound.silent_gap_max_s(heard, start, start + work.dubbed.seconds) if len(heard.pcm) else None
    if gap is None:
        work.reasons["silent_gap_max_s"] = "the dubbed recording has no sound"
    return {
        "silent_gap_max_s": _rounded(gap, 2),
        "audio_gaps": heard.gaps,
        "loudness_original_lufs": _rounded(sound.loudness(published), 1),
        "loudness_dubbed_lufs": _rounded(sound.loudness(heard), 1),
        "loudness_dub_speech_lufs": _rounded(sound.loudness_within(heard, spans), 1) if spans else None,
        "loudness_background_lufs": _rounded(sound.loudness_within(heard, spans, invert=True), 1) if spans else None,
        "original_speech_left_db": left.original_speech_db,
        "background_kept_db": left.background_db,
    }


def _heard_spans(work: _Work) -> list[tuple[float, float]]:
    """Where phrases were found, in seconds of the dubbed recording's clock."""
    return [(p.start_s, p.start_s + p.duration_s) for p in work.phrases or () if p.start_s is not None]


def _segment_rows(work: _Work) -> list[SegmentRow]:
    """One row for each entry, also those that were dropped or not found."""
    sentences = work.manifest.sentences if work.manifest else ()
    # one phrase for each entry; sequence numbers would be ambiguous after a worker was replaced
    phrases: list[Phrase | None] = [*work.phrases] if work.phrases is not None else [None] * len(work.entries)
    to_recording = _source_clock(work)
    rows = []
    for entry, phrase in zip(work.entries, phrases, strict=True):
        start, end = entry.source_start_ns / NS_PER_S, entry.source_end_ns / NS_PER_S
        onset = to_recording(start)
        if work.lineage is not None and work.from_clip is not None:
            onset = work.from_clip(work.lineage.onset(entry, sentences))
        placed = None if entry.placed_ns is None else to_recording(entry.placed_ns / NS_PER_S) - work.origin_s
        heard = phrase.start_s if phrase else None
        rows.append(
            SegmentRow(
                sequence=entry.sequence,
                transcript=entry.transcript,
                translation=entry.translation,
                source_start_s=round(onset - work.origin_s, 3),
                source_end_s=round(to_recording(end) - work.origin_s, 3),
                placed_s=_rounded(placed, 3),
                found_s=None if heard is None else round(heard - work.origin_s, 3),
                duration_s=round(phrase.duration_s if phrase else entry.duration_ns / NS_PER_S, 3),
                tempo=round(entry.tempo, 3),
                lag_s=round(entry.dub_lag_s, 3),
                offset_s=None if heard is None else round(heard - onset, 3),
                match=None if phrase is None else round(phrase.match, 3),
                repeats=len(phrase.again_s) if phrase else 0,
            )
        )
    return rows


class _SourceClock:
    """The worker's source time → the dubbed recording's clock, in seconds."""

    def __init__(self, work: _Work) -> None:
        self._map = work.from_clip if work.lineage is not None else None
        self._origin = work.lineage.origin_s if work.lineage is not None else 0.0
        found = [
            phrase.start_s - phrase.entry.placed_ns / NS_PER_S
            for phrase in work.phrases or ()
            if phrase.start_s is not None and phrase.entry.placed_ns is not None
        ]
        # without a manifest nothing outside ties the two clocks but the phrases themselves
        self._shift = float(np.median(found)) if found else work.origin_s

    def __call__(self, at_s: float) -> float:
        return at_s + self._shift if self._map is None else self._map(at_s + self._origin)


def _source_clock(work: _Work) -> _SourceClock:
    if work.lineage is None or work.from_clip is None:
        work.reasons.setdefault(
            "dub_offset_p50_s", "the source's words are not known, so the journal's own place is all there is to go by"
        )
    return _SourceClock(work)


def _sentence_rows(work: _Work) -> list[SentenceRow]:
    """Dubbed is what is heard in the recording; where phrases can't be found again, what the journal has placed."""
    if work.manifest is None:
        return []
    lineage, mapped = work.lineage, work.from_clip
    placed = [entry for entry in work.entries if entry.placed_ns is not None]
    if work.phrases is not None:
        placed = [phrase.entry for phrase in work.phrases if phrase.start_s is not None]
    spans = [lineage.span(entry) for entry in placed] if lineage else []
    rows = []
    for sentence in work.manifest.sentences:
        first = first_segment(sentence, work.entries, lineage) if lineage else None
        lag = None
        if first is not None and lineage is not None:
            lag = round(first.dub_lag_s + lineage.span(first)[0] - sentence.start_s, 3)
        shift = (mapped(sentence.start_s) - work.origin_s - sentence.start_s) if mapped else 0.0
        rows.append(
            SentenceRow(
                text=sentence.text,
                voice=sentence.voice,
                start_s=round(sentence.start_s + shift, 3),
                end_s=round(sentence.end_s + shift, 3),
                dubbed=covered(sentence, spans),
                before_start=mapped is not None and sentence.start_s < float(mapped.source_s[0]) - 0.05,
                lag_s=lag,
            )
        )
    return rows


def _published_s(work: _Work) -> float:
    """How long the source was: the clip, where it is ours, else what was recorded of it."""
    return work.manifest.seconds if work.manifest else work.original.seconds


def _start_lost(work: _Work) -> float | None:
    if work.from_clip is not None:
        return round(max(0.0, float(work.from_clip.source_s[0])), 2)
    if work.from_original is None:
        return None
    first = min(unit.pts_ms for unit in work.original.video) / 1_000
    return round(float(work.from_original.source_s[0]) - first, 2)


def _repeated(work: _Work) -> int | None:
    """Phrases heard again without reason, and source spans that two segments speak."""
    if work.phrases is None:
        return None
    heard = [phrase for phrase in work.phrases if phrase.start_s is not None]
    spans = [(p.entry.source_start_ns / NS_PER_S, p.entry.source_end_ns / NS_PER_S) for p in heard]
    return sum(len(phrase.again_s) for phrase in heard) + spoken_twice(spans)


def _placement_error(work: _Work) -> float | None:
    """Worst distance in ms between where the journal says a phrase is and where it is, a common shift aside."""
    differences = [
        phrase.start_s - phrase.entry.placed_ns / NS_PER_S
        for phrase in work.phrases or ()
        if phrase.start_s is not None and phrase.entry.placed_ns is not None
    ]
    if not differences:
        return None
    return round(float(np.max(np.abs(np.array(differences) - np.median(differences)))) * 1_000, 1)


def _remains(work: _Work, heard: Sound) -> sound.Remains:
    speech, bed = stem_paths(work.inputs.clip)
    if work.manifest is None or work.from_clip is None or not (speech.exists() and bed.exists()):
        return sound.Remains(None, None)
    spans = [(sentence.start_s, sentence.end_s) for sentence in work.manifest.sentences]
    return sound.remains(heard, read_wav(speech)[:, 0], read_wav(bed), work.from_clip(0.0), spans)


def _evidence(work: _Work, published: Sound, heard: Sound) -> Evidence:
    shift = float(np.median(work.from_original.target_s - work.from_original.source_s)) if work.from_original else 0.0
    return Evidence(
        original=work.inputs.original,
        dubbed=work.inputs.dubbed,
        original_sound=published,
        dubbed_sound=heard,
        origin_s=work.origin_s,
        shift_s=shift,
        levels_original=sound.centre_and_sides(published, shift - work.origin_s),
        levels_dubbed=sound.centre_and_sides(heard, -work.origin_s),
    )


def write_json(path: Path, report: Report) -> None:
    path.write_text(json.dumps(report.model_dump(mode="json"), ensure_ascii=False, indent=2) + "\n", "utf-8")


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 3) if values else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
