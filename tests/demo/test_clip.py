from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from babelcast.demo import clip, sync
from babelcast.demo.recording import as_flv, decode_sound, read_recording
from babelcast.errors import BabelcastError, MissingDependencyError

pytestmark = pytest.mark.integration


def test_the_clip_is_what_its_manifest_says(short_clip: Path, tmp_path: Path) -> None:
    manifest = clip.ClipManifest.beside(short_clip)
    assert manifest is not None
    assert len(manifest.sentences) == 3 and {line.voice for line in manifest.sentences} == {"slt", "rms"}
    assert all(a.end_s + 0.2 < b.start_s for a, b in zip(manifest.sentences, manifest.sentences[1:], strict=False))
    recording = read_recording(as_flv(short_clip, tmp_path))
    assert len(recording.video) == 14 * 30
    assert any(unit.pts_ms != unit.dts_ms for unit in recording.video), "no B-frames"
    first = min(unit.pts_ms for unit in recording.video) / 1_000
    flashes = sync.find_flashes(recording.path, manifest.flash_box)
    assert np.allclose([at - first for at in flashes], manifest.flashes_s, atol=0.002)
    result = sync.measure_sync(decode_sound(recording), flashes)
    assert len(result.pairs) == len(manifest.beeps_s) and abs(result.worst_ms or 99) < 1.0


def test_the_speech_is_in_the_centre_and_the_bed_is_wide(short_clip: Path) -> None:
    speech, bed = (clip.read_wav(path) for path in clip.stem_paths(short_clip))
    assert speech.shape[1] == 1 and bed.shape[1] == 2
    assert abs(float(np.corrcoef(bed[:, 0], bed[:, 1])[0, 1])) < 0.15


def test_the_clip_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = clip.cached_clip(4, tmp_path)
    monkeypatch.setattr(clip, "make_clip", lambda *_: pytest.fail("made again"))
    assert clip.cached_clip(4, tmp_path) == made
    assert [path.name for path in tmp_path.iterdir()] == [made.parent.name]


def test_no_ffmpeg_is_said_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="apt install ffmpeg"):
        clip.make_clip(tmp_path / "clip.mp4", 5)


def test_a_clip_too_short_to_hold_a_sentence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BabelcastError, match="too short"):
        clip.make_clip(tmp_path / "clip.mp4", 2)


def test_a_gap_in_the_timestamps_is_silence(short_clip: Path, tmp_path: Path) -> None:
    """The sound of seconds 5 to 7 is taken out of the recording; the rest stays where it was."""
    whole = as_flv(short_clip, tmp_path)
    cut = tmp_path / "cut.flv"
    keep = "aselect='not(between(t,5,7))'"
    command = ("ffmpeg", "-v", "error", "-i", str(whole), "-c:v", "copy", "-c:a", "aac", "-af", keep, str(cut))
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    sound = decode_sound(read_recording(cut))
    assert sound.gaps >= 1
    assert float(np.abs(sound.between(5.3, 6.7)).max()) < 1e-3
    assert float(np.abs(sound.between(3.0, 4.5)).max()) > 0.01
