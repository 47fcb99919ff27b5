"""Voices told apart: made ones, whose pitch and formants are known, and flite's."""

from __future__ import annotations

import numpy as np
import pytest
from tests.fakes.speech import flite, noise, silence

from babelcast.sts.speakers import Speakers, SpeakerSettings, gender_of, samples_of, voice_print
from babelcast.units import SPEECH_RATE, Pcm

SETTINGS = SpeakerSettings()


def vowel(f0: float, formants: tuple[float, ...], seconds: float = 1.5, level: float = 0.2) -> Pcm:
    """Harmonics of a gliding ``f0`` under resonances 80 Hz wide at ``formants``."""
    when = np.arange(int(seconds * SPEECH_RATE)) / SPEECH_RATE
    pitch = f0 * (1 + 0.05 * np.sin(2 * np.pi * 2 * when))
    phase = 2 * np.pi * np.cumsum(pitch) / SPEECH_RATE
    sound = np.zeros_like(when)
    for harmonic in range(1, int(5_000 / f0)):
        gain = sum(1 / (1 + ((harmonic * f0 - formant) / 80) ** 2) for formant in formants) + 0.01
        sound += gain * np.sin(harmonic * phase)
    leveled: Pcm = (level * sound / np.abs(sound).max()).astype(np.float32)
    return leveled


HIGH = (850.0, 2_000.0, 3_000.0)
LOW = (600.0, 1_200.0, 2_400.0)


@pytest.mark.unit
@pytest.mark.parametrize("f0", [90.0, 130.0, 180.0, 240.0])
def test_the_pitch_is_found(f0: float) -> None:
    found = voice_print(vowel(f0, LOW))
    assert found is not None and abs(found.f0 - f0) < 0.05 * f0


@pytest.mark.unit
def test_what_is_no_voice_has_no_print() -> None:
    assert voice_print(samples_of([silence(1.0)])) is None
    assert voice_print(samples_of([noise(1.0)])) is None
    assert voice_print(np.zeros(100, np.float32)) is None


@pytest.mark.unit
def test_each_person_keeps_their_number_however_loud() -> None:
    speakers = Speakers()
    turns = [(200.0, HIGH, 0.2), (110.0, LOW, 0.2), (205.0, HIGH, 0.02), (108.0, LOW, 0.5), (198.0, HIGH, 0.1)]
    found = [speakers.hear(vowel(f0, formants, level=level)) for f0, formants, level in turns]
    assert [speaker.number for speaker in found] == [0, 1, 0, 1, 0]
    assert [speaker.gender for speaker in found[:2]] == ["female", "male"]
    assert [speaker.rank for speaker in found[:2]] == [0, 0]


@pytest.mark.unit
def test_a_moment_of_voice_changes_nobody() -> None:
    speakers = Speakers()
    first = speakers.hear(vowel(200.0, HIGH))
    assert speakers.hear(vowel(110.0, LOW, seconds=0.2)) == first
    assert speakers.hear(samples_of([silence(1.0)])) == first


@pytest.mark.unit
def test_nobody_is_introduced_without_end() -> None:
    speakers = Speakers(SpeakerSettings(most=2))
    numbers = {speakers.hear(vowel(f0, (f0 * 4, f0 * 11))).number for f0 in (80.0, 120.0, 180.0, 270.0, 390.0)}
    assert numbers == {0, 1}


@pytest.mark.unit
def test_between_man_and_woman_nothing_is_guessed() -> None:
    assert [gender_of(f0, SETTINGS) for f0 in (100.0, 150.0, 210.0)] == ["male", None, "female"]


@pytest.mark.integration
def test_two_people_of_a_programme() -> None:
    """Alternating sentences of flite's woman and man: two people, each with one number and the right gender."""
    sentences = (
        "Good evening and welcome to the harbor festival.",
        "The first boats arrived early in the morning.",
        "Many families walked along the river with their children.",
        "The captain told us that the journey took eleven days.",
    )
    speakers = Speakers()
    found = [(voice, speakers.hear(samples_of([flite(text, voice)]))) for text in sentences for voice in ("slt", "rms")]
    assert [speaker.number for _, speaker in found] == [0, 1] * len(sentences)
    assert found[0][1].gender == "female" and found[1][1].gender == "male"
