from __future__ import annotations

import numpy as np
import pytest
from tests.fakes.speech import flite, music, silence

from babelcast.sts.denoise import HOP, WINDOW, Denoiser
from babelcast.sts.vad import CHUNK_BYTES, GateSettings, SileroVad, SpeechGate

pytestmark = pytest.mark.unit


def push(gate: SpeechGate, *probabilities: float) -> None:
    for probability in probabilities:
        gate.push(probability)


def test_speech_begins_where_its_probability_began_to_rise() -> None:
    gate = SpeechGate(GateSettings(onset_chunks=2))
    push(gate, 0.0, 0.05, 0.2, 0.6)
    assert gate.onset is None
    gate.push(0.9)
    assert gate.onset == 2


def test_what_is_announced_as_quiet_never_becomes_speech_later() -> None:
    gate = SpeechGate()
    announced = 0
    for probability in (0.0, 0.2, 0.3, 0.2, 0.4, 0.2, 0.6, 0.7):
        gate.push(probability)
        if gate.onset is None:
            announced = gate.quiet_until
    assert gate.onset is not None and announced <= gate.onset


def test_one_loud_chunk_is_no_speech_and_pauses_are_counted() -> None:
    gate = SpeechGate()
    push(gate, 0.9, 0.0, 0.0)
    assert gate.onset is None
    push(gate, 0.9, 0.9, 0.1, 0.1)
    assert gate.pause == 2
    gate.push(0.9)
    assert gate.pause == 0
    gate.end()
    assert gate.onset is None


def test_silero_hears_speech_and_not_music() -> None:
    vad = SileroVad()

    def mean(pcm: bytes) -> float:
        vad.reset()
        whole = range(0, len(pcm) - CHUNK_BYTES, CHUNK_BYTES)
        return float(np.mean([vad.probability(pcm[place : place + CHUNK_BYTES]) for place in whole]))

    assert mean(flite("Thousands of people have come to the city today.")) > 0.7
    assert mean(music(3.0)) < 0.2
    assert mean(silence(2.0)) < 0.1


def test_denoiser_lowers_noise_keeps_a_voice_and_the_length() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 500, 32_000)
    tone = 8_000 * np.sin(2 * np.pi * 500 * np.arange(32_000) / 16_000)
    denoiser = Denoiser()
    quiet = np.frombuffer(denoiser.push(noise.astype("<i2").tobytes(), speech=False), "<i2").astype(float)
    loud = np.frombuffer(denoiser.push((tone + noise).astype("<i2").tobytes(), speech=True), "<i2").astype(float)
    assert len(quiet) == 32_000 and len(loud) == 32_000
    assert quiet[WINDOW:].std() < 0.5 * noise.std()
    assert abs(loud[WINDOW:].std() / tone.std() - 1) < 0.1


def test_denoiser_changes_nothing_while_it_knows_no_noise() -> None:
    samples = (np.random.default_rng(2).normal(0, 3_000, HOP * 50)).astype("<i2")
    out = np.frombuffer(Denoiser().push(samples.tobytes(), speech=True), "<i2")
    delay = WINDOW - HOP
    assert np.abs(out[delay:].astype(int) - samples[: len(out) - delay]).max() <= 1
