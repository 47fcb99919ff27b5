"""The demo's clip: two speakers talk about a match over music and crowd, with everything about it known.

Speech is synthesised by ffmpeg's flite voices (the ones that the offline recogniser hears well) and stands in
the centre; the bed (:mod:`bed`) is wide; the pictures (:mod:`scene`) flash in a corner when the bed ticks.
The manifest beside the clip says what was said when, so that a recording can be judged against it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from babelcast.demo import bed, scene
from babelcast.demo.loudness import integrated_lufs
from babelcast.errors import BabelcastError, MissingDependencyError
from babelcast.units import RATE, Pcm

RECIPE = 6
"""Raise it when the same length would give another clip: the cache is keyed by it."""
SPEECH_LUFS = -20.0
BED_LUFS = -38.0
FLASH_EVERY_S = 2

_FIRST_WORD_S = 1.4
_LAST_WORD_BEFORE_END_S = 1.0
_GAPS_S = (0.30, 0.42, 0.36, 0.50, 0.28, 0.45)
_TURN_GAP_S = 0.12

SCRIPT: tuple[tuple[str, str], ...] = (
    ("slt", "Hello everyone, and welcome to the stadium."),
    ("slt", "It is a beautiful night, and every seat in the house is taken."),
    ("rms", "We are very happy to be here with you tonight."),
    ("rms", "The home team has won the last three games."),
    ("rms", "The visitors need a good result to stay in the competition."),
    ("slt", "The rain has stopped, but the grass is still very wet."),
    ("slt", "I spoke with the trainer before the game."),
    ("rms", "The trainer told us that the team has worked very hard this week."),
    ("slt", "The captain is back after a long injury."),
    ("slt", "The people are very happy to see their captain again."),
    ("rms", "But the other team has a young and very strong goalkeeper."),
    ("rms", "Both teams know that this is the most important game of the year."),
    ("slt", "You can hear the people singing behind me."),
    ("rms", "The children are singing with their parents and their friends."),
    ("slt", "The referee is speaking with both captains."),
    ("rms", "The winner will play in the final next month."),
    ("slt", "The game will begin in one minute."),
    ("rms", "Stay with us, because the night will be long."),
    ("slt", "The sun has gone down and the lights are on."),
    ("rms", "The president of the club is also here with his family."),
    ("rms", "This player is the best player in the country."),
)
"""(flite's voice, what it says)."""


class Sentence(BaseModel):
    """``start_s`` and ``end_s`` are the first and last sound, in seconds of the clip."""

    model_config = ConfigDict(frozen=True)

    text: str
    voice: str
    start_s: float
    end_s: float


class FlashBox(BaseModel):
    model_config = ConfigDict(frozen=True)

    x: int
    y: int
    width: int
    height: int


class ClipManifest(BaseModel):
    """What is in a made clip. The stems lie beside it: ``<clip>.speech.wav`` (mono), ``<clip>.bed.wav`` (stereo)."""

    model_config = ConfigDict(frozen=True)

    seconds: float
    fps: int
    width: int
    height: int
    sentences: tuple[Sentence, ...]
    flashes_s: tuple[float, ...]
    beeps_s: tuple[float, ...]
    flash_box: FlashBox

    @classmethod
    def beside(cls, clip: Path) -> ClipManifest | None:
        """The manifest of ``clip``, None where there is none (a clip of the user's own)."""
        path = manifest_path(clip)
        return cls.model_validate_json(path.read_text("utf-8")) if path.exists() else None


def manifest_path(clip: Path) -> Path:
    return clip.with_suffix(".json")


def stem_paths(clip: Path) -> tuple[Path, Path]:
    """Where the speech stem and the bed of a made clip lie."""
    return clip.with_suffix(".speech.wav"), clip.with_suffix(".bed.wav")


def cached_clip(seconds: float = 60, cache: Path | None = None) -> Path:
    """The made clip of ``seconds``, made now or taken from the cache (``~/.cache/babelcast/demo``)."""
    root = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "babelcast" / "demo"
    recipe = f"{RECIPE} {seconds} {SPEECH_LUFS} {BED_LUFS} {SCRIPT} {_GAPS_S} {_TURN_GAP_S}"
    folder = root / hashlib.sha256(recipe.encode()).hexdigest()[:12]
    clip = folder / "clip.mp4"
    if not (clip.exists() and manifest_path(clip).exists()):
        root.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix="clip-", dir=root))
        try:
            make_clip(made / "clip.mp4", seconds)
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return clip


def make_clip(path: Path, seconds: float = 60) -> ClipManifest:
    """Write the clip (MP4: H.264 with B-frames, AAC stereo 48 kHz), its manifest and its stems.

    Raises MissingDependencyError without ffmpeg, its flite voices or x264; BabelcastError when ffmpeg fails.
    """
    if seconds < 4:
        raise BabelcastError(f"a clip of {seconds:g} s is too short to hold a sentence", hint="4 s is the least")
    count = round(seconds * scene.FPS)
    speech, sentences = _speech(seconds)
    flashes = tuple(float(at) for at in range(FLASH_EVERY_S, int(seconds), FLASH_EVERY_S))
    background = bed.make_bed(seconds, flashes, BED_LUFS)
    manifest = ClipManifest(
        seconds=seconds,
        fps=scene.FPS,
        width=scene.WIDTH,
        height=scene.HEIGHT,
        sentences=sentences,
        flashes_s=flashes,
        beeps_s=flashes,
        flash_box=FlashBox(**dict(zip(("x", "y", "width", "height"), scene.FLASH_BOX, strict=True))),
    )
    speech_path, bed_path = stem_paths(path)
    _write_wav(speech_path, speech[:, None])
    _write_wav(bed_path, background)
    with tempfile.TemporaryDirectory(prefix="babelcast-clip-") as temporary:
        mix = Path(temporary) / "mix.wav"
        _write_wav(mix, speech[:, None] + background)
        _encode(path, mix, count, frozenset(round(at * scene.FPS) for at in flashes))
    manifest_path(path).write_text(manifest.model_dump_json(indent=1), "utf-8")
    return manifest


def read_wav(path: Path) -> Pcm:
    """Samples of a 16-bit WAV file as float32, shape (n, channels)."""
    with wave.open(str(path)) as file:
        raw = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        return (raw.astype(np.float32) / np.float32(32_768)).reshape(-1, file.getnchannels())


def _speech(seconds: float) -> tuple[Pcm, tuple[Sentence, ...]]:
    """The talk, mono float32 of the clip's length, and where each sentence lies in it."""
    out = np.zeros(round(seconds * RATE), np.float32)
    sentences: list[Sentence] = []
    with ThreadPoolExecutor(2) as pool:
        spoken = list(pool.map(lambda line: _speak(*line), SCRIPT))
    at = round(min(_FIRST_WORD_S, seconds / 8) * RATE)
    last = len(out) - round(_LAST_WORD_BEFORE_END_S * RATE)
    index = 0
    while True:
        voice, text = SCRIPT[index % len(SCRIPT)]
        samples = spoken[index % len(SCRIPT)]
        if at + len(samples) > last:
            break
        out[at : at + len(samples)] = samples
        sentences.append(Sentence(text=text, voice=voice, start_s=at / RATE, end_s=(at + len(samples)) / RATE))
        gap = _GAPS_S[index % len(_GAPS_S)]
        index += 1
        if SCRIPT[index % len(SCRIPT)][0] != voice:
            gap += _TURN_GAP_S
        at += len(samples) + round(gap * RATE)
    return out, tuple(sentences)


def _speak(voice: str, text: str) -> Pcm:
    """One sentence at :data:`SPEECH_LUFS`, without the silence that flite puts round it."""
    raw = _ffmpeg("-f", "lavfi", "-i", f"flite=voice={voice}:text='{text}'", "-ar", str(RATE), "-f", "s16le", "-")
    samples = np.frombuffer(raw, np.int16).astype(np.float32) / np.float32(32_768)
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    margin = RATE // 50
    samples = samples[max(0, loud[0] - margin) : loud[-1] + margin]
    return samples * np.float32(10 ** ((SPEECH_LUFS - integrated_lufs(samples)) / 20))


def _write_wav(path: Path, pcm: Pcm) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(pcm.shape[1])
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.round(np.clip(pcm, -1, 1) * 32_767).astype(np.int16).tobytes())


def _encode(path: Path, mix: Path, count: int, flashes: frozenset[int]) -> None:
    options = (
        *("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{scene.WIDTH}x{scene.HEIGHT}", "-r", str(scene.FPS)),
        *("-i", "-", "-i", str(mix), "-map", "0:v", "-map", "1:a"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-b_strategy", "0", "-g", str(2 * scene.FPS)),
        *("-keyint_min", str(2 * scene.FPS), "-sc_threshold", "0", "-b:v", "3500k", "-maxrate", "4500k"),
        *("-bufsize", "4500k", "-profile:v", "main", "-colorspace", "bt709", "-color_range", "tv"),
        # ffmpeg's temporal noise shaping makes pulses of −38 dBFS in speech
        *("-c:a", "aac", "-aac_tns", "0", "-b:a", "160k", "-movflags", "+faststart", "-y", str(path)),
    )
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [_program(), "-v", "error", *options], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors
        )
        assert process.stdin is not None
        try:
            for picture in scene.frames(count, flashes):
                process.stdin.write(picture)
            process.stdin.close()
        except BrokenPipeError:
            pass  # ffmpeg ended early: its exit status and words say why
        finally:
            status = process.wait()
        if status:
            errors.seek(0)
            _fail(errors.read())


def _ffmpeg(*options: str) -> bytes:
    done = subprocess.run([_program(), "-v", "error", *options], stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode:
        _fail(done.stderr)
    return done.stdout


def _program() -> str:
    found = shutil.which("ffmpeg")
    if found is None:
        raise MissingDependencyError("ffmpeg is not installed", hint="sudo apt install ffmpeg")
    return found


def _fail(said: bytes) -> None:
    text = said.decode(errors="replace").strip()
    if "No such filter: 'flite'" in text or "Unknown encoder" in text:
        raise MissingDependencyError(
            "this ffmpeg lacks what the demo's clip is made with (flite, libx264)", hint="sudo apt install ffmpeg"
        )
    raise BabelcastError(f"ffmpeg could not make the demo's clip: {text[-300:]}")
