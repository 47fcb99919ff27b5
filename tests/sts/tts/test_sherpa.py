"""sherpa-onnx with voices of a dozen nodes, loaded by the code that loads the real ones; phonemes; choice of voices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.fakes.tiny_models import tone_voice

from babelcast.errors import ConfigError, MissingDependencyError, SpeechUnavailableError, UnsupportedLanguageError
from babelcast.models.manifest import MANIFEST, VoiceRecord
from babelcast.sts.tts.base import pick_voice, tempo_for, trimmed, voices_for
from babelcast.sts.tts.espeak import EspeakSynthesizer
from babelcast.sts.tts.phonemes import phonemize
from babelcast.sts.tts.several import Synthesizers
from babelcast.sts.tts.sherpa import SherpaSynthesizer
from babelcast.wire import Voice

VOICES = (
    VoiceRecord(name="dora", language="es", gender="female", speaker=0, phonemes="es"),
    VoiceRecord(name="alex", language="es", gender="male", speaker=1, phonemes="es"),
    VoiceRecord(name="nova", language="en-us", gender="female", speaker=2, phonemes="en-us"),
    VoiceRecord(name="emma", language="en-gb", gender="female", speaker=3, phonemes="en-gb"),
)
TEXT = "Buenas tardes, señoras y señores."


@pytest.fixture(scope="module", params=["piper", "kokoro"])
def synthesizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SherpaSynthesizer:
    return SherpaSynthesizer(str(tone_voice(tmp_path_factory.mktemp("tts") / request.param, request.param, VOICES)))


@pytest.mark.integration
def test_a_voice_speaks_in_its_own_rate_and_the_same_each_time(synthesizer: SherpaSynthesizer) -> None:
    plain = synthesizer.speak(TEXT, "dora")
    assert plain.rate in {22_050, 24_000} and plain.samples.dtype == np.float32
    assert 0.05 < np.abs(plain.samples).max() <= 1 and np.abs(plain.samples[:300]).max() > 0.004
    assert np.array_equal(plain.samples, synthesizer.speak(TEXT, "dora").samples)
    assert plain.voice.endswith("/dora@1.00")


@pytest.mark.integration
def test_tempo_follows_the_hint_within_bounds(synthesizer: SherpaSynthesizer) -> None:
    plain = synthesizer.speak(TEXT, "dora")
    fitted = synthesizer.speak(TEXT, "dora", plain.duration_s / 1.2)
    assert fitted.duration_s == pytest.approx(plain.duration_s / 1.2, rel=0.03)
    assert fitted.voice.endswith("@1.20")
    assert synthesizer.speak(TEXT, "dora", 0.1).duration_s == pytest.approx(plain.duration_s / 1.35, rel=0.03)
    assert synthesizer.speak(TEXT, "dora", 60.0).voice == plain.voice


@pytest.mark.integration
def test_voices_are_found_by_language_name_and_gender(synthesizer: SherpaSynthesizer) -> None:
    assert synthesizer.resolve("es-419", None) == "dora" and synthesizer.resolve("es", "male") == "alex"
    assert synthesizer.resolve("en-GB", None) == "emma" and synthesizer.resolve("en", "nova") == "nova"
    assert synthesizer.resolve("en", "male") == "nova"
    for language, voice in (("de", None), ("es", "nova"), ("es", "nobody")):
        with pytest.raises(UnsupportedLanguageError):
            synthesizer.resolve(language, voice)
    assert [synthesizer.pick("es", speaker) for speaker in range(3)] == ["dora", "alex", "dora"]
    assert synthesizer.pick("es", 4, "male") == "alex"
    with pytest.raises(UnsupportedLanguageError):
        synthesizer.speak(TEXT, "nobody")


@pytest.mark.integration
def test_a_clause_that_hangs_in_the_library_does_not_keep_the_others_for_ever(
    synthesizer: SherpaSynthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("babelcast.sts.tts.sherpa._TURN_S", 0.05)
    with synthesizer._turns, pytest.raises(SpeechUnavailableError, match="does not answer"):
        synthesizer.speak(TEXT, "dora")
    assert len(synthesizer.speak(TEXT, "dora").samples)


@pytest.mark.integration
def test_what_has_no_sound_is_empty(synthesizer: SherpaSynthesizer) -> None:
    assert not len(synthesizer.speak("…", "dora").samples)


@pytest.mark.integration
def test_a_model_that_is_not_whole_is_said_before_the_library_ends_the_process(tmp_path: Path) -> None:
    voice = tone_voice(tmp_path / "vits-piper-x")
    (voice / "tokens.txt").unlink()
    with pytest.raises(MissingDependencyError, match=r"no tokens\.txt \(babelcast models pull vits-piper-x --again"):
        SherpaSynthesizer(str(voice)).preload()
    (voice / MANIFEST).unlink()
    with pytest.raises(ConfigError, match="names its voices"):
        SherpaSynthesizer(str(voice))


@pytest.mark.integration
def test_several_synthesizers_are_one(synthesizer: SherpaSynthesizer) -> None:
    both = Synthesizers([synthesizer, EspeakSynthesizer()])
    assert both.resolve("es", None) == "0/dora" and both.resolve("fr", "male") == "1/fr+m3"
    assert both.pick("it", 1) == "1/it+m3"
    spoken = both.speak(TEXT, "0/dora"), both.speak("Bonsoir.", "1/fr+m3")
    assert spoken[0].voice.startswith("sherpa:") and spoken[1].voice.startswith("espeak-ng:fr+m3@")
    with pytest.raises(UnsupportedLanguageError):
        both.resolve("xx", None)
    assert {voice.language for voice in both.voices} >= {"es", "en-gb", "fr"}


@pytest.mark.integration
def test_espeak_has_a_voice_for_each_person() -> None:
    espeak = EspeakSynthesizer()
    first = [espeak.pick("es", speaker) for speaker in range(4)]
    assert first == ["es+f2", "es+m3", "es+f4", "es+m1"] and first[0] == espeak.resolve("es", None)
    assert [espeak.pick("es", speaker, "male") for speaker in range(2)] == ["es+m3", "es+m1"]
    assert espeak.pick("es", 8) == first[0]
    assert len({len(espeak.speak("Hola a todos.", voice).samples) for voice in first}) >= 1


@pytest.mark.integration
def test_phonemes_keep_punctuation_and_each_familys_alphabet() -> None:
    assert phonemize("Hola, ¿cómo estás? Bien.", "es", "piper") == "ˈola, kˈomo estˈas? bjˈen."
    assert phonemize("the choice now", "en-us", "kokoro") == "ðə ʧˈYs nˈW"
    assert phonemize("3.5 km", "en-us", "piper").count(".") == 0
    assert phonemize("... !", "es", "piper") == ""
    assert "(" not in phonemize("un iPhone y un weekend", "es", "piper")
    with pytest.raises(UnsupportedLanguageError):
        phonemize("x", "es;rm", "piper")


@pytest.mark.unit
def test_voices_for_a_tag_and_a_person() -> None:
    def voice(name: str, language: str, gender: str) -> Voice:
        return Voice.model_validate({"name": name, "language": language, "gender": gender, "engine": "e"})

    voices = [voice("a", "en-us", "female"), voice("b", "en-gb", "male"), voice("c", "en-us", "male")]
    assert [found.name for found in voices_for(voices, "en-GB")] == ["b"]
    assert [found.name for found in voices_for(voices, "en")] == ["a", "b", "c"]
    assert voices_for(voices, "es") == []
    assert [pick_voice(voices, speaker, "male").name for speaker in range(3)] == ["b", "c", "b"]
    assert pick_voice(voices[:1], 5, "male").name == "a"


@pytest.mark.unit
def test_tempo_and_trim() -> None:
    assert tempo_for(2.0, None) == tempo_for(2.0, 3.0) == 1.0
    assert tempo_for(2.2, 2.0) == pytest.approx(1.1) and tempo_for(9.0, 1.0) == 1.35
    sound = np.concatenate([np.zeros(1_000), np.ones(500), np.zeros(1_000)]).astype(np.float32)
    assert len(trimmed(sound, 10_000)) == 500 + 2 * 50 - 1
    assert not len(trimmed(np.zeros(100, np.float32), 10_000))
