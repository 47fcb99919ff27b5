"""A dubbed recording whose every figure is known, made from a short clip without running the program."""

from __future__ import annotations

import subprocess
import wave
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from babelcast.audio.stretch import stretch
from babelcast.demo.clip import ClipManifest, read_wav, stem_paths
from babelcast.demo.measure import Inputs
from babelcast.demo.phrases import _as_worker
from babelcast.spec import SegmentEntry
from babelcast.sts.tts import espeak
from babelcast.units import NS_PER_S, RATE, Pcm

VOICE = "espeak-ng:es-419+f2@170"
LINES = {
    "Hello everyone, and welcome to the stadium.": "Hola a todo el mundo, y bienvenido al estadio.",
    "It is a beautiful night, and every seat in the house is taken.": "Es una noche bella, y la casa está llena.",
    "We are very happy to be here with you tonight.": "Somos muy felices de estar aquí esta noche.",
    "The home team has won the last three games.": "El equipo de casa ha ganado los últimos tres juegos.",
    "The visitors need a good result to stay in the competition.": "Los visitantes necesitan un resultado bueno.",
    "The rain has stopped, but the grass is still very wet.": "La lluvia ha parado, pero la hierba está mojada.",
}
SOURCE_BEGINS_S = 0.4
"""Clip time at which the pretended worker's source timeline begins."""


@dataclass(frozen=True)
class Flaws:
    """What is wrong with the recording; all zero is a perfect one."""

    late_s: float = 0.0
    sound_early_ms: float = 0.0
    altered: bool = False
    lost: bool = False
    joined_s: float = 0.0
    silence_s: float = 0.0
    missing: tuple[int, ...] = ()
    repeated: int | None = None
    swapped: bool = False
    original_gain: float = 0.0
    bed_gain: float = 1.0
    tempo: float = 1.0
    journal_wrong_s: float = 0.0
    dub: bool = True
    extra: dict[int, float] = field(default_factory=dict)


def make_inputs(folder: Path, clip: Path, flaws: Flaws) -> Inputs:
    """Write original.flv and dubbed.flv into ``folder`` and return what measure() takes."""
    manifest = ClipManifest.beside(clip)
    assert manifest is not None
    speech, bed = (read_wav(path) for path in stem_paths(clip))
    sound: Pcm = bed * np.float32(flaws.bed_gain) + speech * np.float32(flaws.original_gain)
    entries = _place(sound, manifest, flaws) if flaws.dub else ()
    if flaws.silence_s:
        sound[2 * RATE : round((2 + flaws.silence_s) * RATE)] = 0.0
    original, dubbed = folder / "original.flv", folder / "dubbed.flv"
    _ffmpeg("-i", str(clip), "-c", "copy", str(original))
    _mux(folder, original, sound, flaws, dubbed)
    return Inputs(original, dubbed, clip, entries, media_server="relay", fallback_seconds=0.0, first_output_s=7.0)


def _place(sound: Pcm, manifest: ClipManifest, flaws: Flaws) -> tuple[SegmentEntry, ...]:
    entries = []
    end = 0.0
    order = list(manifest.sentences)
    for index, sentence in enumerate(order):
        said = LINES[sentence.text]
        samples = espeak.resynthesize(said, VOICE)
        assert samples is not None
        voice = _as_worker(samples, espeak.RATE, flaws.tempo) * np.float32(0.3)
        at = max(sentence.start_s + flaws.late_s + flaws.extra.get(index, 0.0), end + 0.06)
        end = at + len(voice) / RATE
        if index not in flaws.missing:
            _add(sound, at, voice)
        if index == flaws.repeated:
            _add(sound, end + 0.1, voice)
            end += 0.1 + len(voice) / RATE
        entries.append(_entry(index, sentence.start_s, sentence.end_s, at, len(voice), sentence.text, flaws))
    if flaws.swapped:  # the recording says the second before the first
        first, second = entries[0], entries[1]
        entries[0] = second.model_copy(update={"sequence": 0, "segment_id": "0"})
        entries[1] = first.model_copy(update={"sequence": 1, "segment_id": "1"})
    return tuple(entries)


def _entry(index: int, start: float, end: float, at: float, n: int, text: str, flaws: Flaws) -> SegmentEntry:
    placed = at - SOURCE_BEGINS_S + (flaws.journal_wrong_s if index == 1 else 0.0)
    return SegmentEntry(
        sequence=index,
        segment_id=str(index),
        language="es",
        # a recogniser places onsets roughly
        source_start_ns=round((start - SOURCE_BEGINS_S + (0.08, -0.06, 0.02)[index % 3]) * NS_PER_S),
        source_end_ns=round((end - SOURCE_BEGINS_S) * NS_PER_S),
        placed_ns=round(placed * NS_PER_S),
        duration_ns=n * NS_PER_S // RATE,
        tempo=flaws.tempo,
        dub_lag_s=3.0 + 0.1 * index,
        dub_offset_s=at - start,
        transcript=text.lower().replace(",", "").rstrip("."),
        translation=LINES[text],
        voice=VOICE,
    )


def _add(sound: Pcm, at_s: float, voice: Pcm) -> None:
    first = round(at_s * RATE)
    part = voice[: max(0, len(sound) - first)]
    sound[first : first + len(part)] += part[:, None]


def _mux(folder: Path, original: Path, sound: Pcm, flaws: Flaws, out: Path) -> None:
    wav = folder / "sound.wav"
    with wave.open(str(wav), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(sound, -1, 1) * 32_767).astype(np.int16).tobytes())
    # the clip's first picture is not at 0 in the FLV; the sound is laid against it, and all of it starts 5 s later
    start = first_picture_ms(original) / 1_000
    shift = start - flaws.sound_early_ms / 1_000
    filters = f"adelay={round(shift * RATE)}S:all=1" if shift >= 0 else f"atrim=start={-shift},asetpts=PTS-STARTPTS"
    whole = folder / "whole.flv"
    _ffmpeg(
        *("-copyts", "-i", str(original), "-i", str(wav), "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-af", filters),
        *("-c:a", "aac", "-b:a", "160k", "-output_ts_offset", "5", str(whole)),
    )
    out.write_bytes(_damaged(whole.read_bytes(), flaws))


def _damaged(flv: bytes, flaws: Flaws) -> bytes:
    """Alter or lose the 40th picture; leave out what was sent before the reader joined."""
    data = bytearray(flv)
    at, seen = 9 + 4, 0
    while at + 11 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        media = data[at] in (8, 9) and data[at + 12] == 1
        if media and int.from_bytes(data[at + 4 : at + 7], "big") < 5_000 + 1_000 * flaws.joined_s:
            if flaws.joined_s:
                del data[at : at + 15 + size]
                continue
        if data[at] == 9 and media:
            seen += 1
            if seen == 40 and flaws.altered:
                data[at + 11 + size - 3] ^= 0x55
            if seen == 40 and flaws.lost:
                del data[at : at + 15 + size]
                continue
        at += 15 + size
    return bytes(data)


def first_picture_ms(flv: Path) -> int:
    from babelcast.demo.recording import read_recording

    return min(unit.pts_ms for unit in read_recording(flv).video)


def _ffmpeg(*options: str) -> None:
    subprocess.run(("ffmpeg", "-v", "error", "-y", *options), check=True, stdin=subprocess.DEVNULL)


__all__ = ["Flaws", "make_inputs", "replace", "stretch"]
