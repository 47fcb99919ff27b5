"""Engines chosen by name, and the whole chain with random models: whisper → OPUS-MT → espeak-ng or sherpa-onnx."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tests.fakes.speech import flite, frames, noise, silence
from tests.fakes.tiny_models import WHISPER_SAYS, many, opus, tone_voice, whisper

from babelcast.cli.sts import command
from babelcast.errors import ConfigError, MissingDependencyError, UnsupportedLanguageError
from babelcast.sts.asr.whisper import WhisperEngine, WhisperSettings
from babelcast.sts.batching import BatchSettings
from babelcast.sts.chain import ChainEngine
from babelcast.sts.device import Compute
from babelcast.sts.engine import Spoken
from babelcast.sts.engines import ASR, MT, TTS, EngineSettings, EngineSpec, build
from babelcast.sts.glossary import load_glossary
from babelcast.sts.mt.base import Term
from babelcast.sts.mt.several import Translators
from babelcast.sts.tts import espeak
from babelcast.sts.tts.sherpa import load as load_voice
from babelcast.sts.vad import CHUNK_BYTES, SileroV6Vad
from babelcast.units import SPEECH_RATE
from babelcast.wire import Partial, Start

CPU = Compute(device="cpu", threads=1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "asr": whisper(folder / "faster-whisper-random"),
        "es": opus(folder / "opus-mt-en-es"),
        "many": many(folder / "nllb", "nllb"),
        "voice": tone_voice(folder / "vits-piper-tone"),
    }


def chain(models: dict[str, Path], **changes: object) -> ChainEngine:
    settings = {
        "asr": f"faster-whisper:{models['asr']}",
        "mt": (f"ctranslate2:{models['es']}", f"ctranslate2:{models['many']}"),
        "tts": ("espeak-ng",),
        "compute": CPU,
    }
    return build(EngineSettings(**(settings | changes)))  # type: ignore[arg-type]


def dub(engine: ChainEngine, pcm: bytes, source: str = "en") -> list[object]:
    session = engine.open(Start(stream_id="s", source_language=source, target_language="es"), "s")
    try:
        found: list[object] = [output for frame in frames(pcm) for output in session.push(frame.start_ns, frame.pcm)]
        return found + list(session.finish())
    finally:
        session.close()


@pytest.mark.integration
def test_the_language_is_detected_where_it_is_not_known(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("babelcast.sts.session.plausible", lambda transcript, translation: True)
    asked: list[tuple[str, str]] = []
    translate = Translators.translate

    def noted(self: Translators, text: str, source: str, target: str) -> str:
        asked.append((source, target))
        return translate(self, text, source, target)

    monkeypatch.setattr(Translators, "translate", noted)
    engine = chain(models)
    try:
        with pytest.raises(UnsupportedLanguageError, match="from und to xx"):
            engine.resolve_voice("und", "xx", None)
        pcm = silence(0.6) + flite("Good evening and welcome to the harbor festival.") + silence(1.0)
        # this random model takes everything for one language, which one is its own affair
        assert any(isinstance(output, Spoken) for output in dub(engine, pcm, source="und"))
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)
        assert engine.process(samples, SPEECH_RATE, "und", "es", None, 0).transcript
    finally:
        engine.close()
    assert {source for source, _ in asked} <= {"en", "de"}


@pytest.mark.integration
def test_sessions_at_once_share_the_models_calls(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("babelcast.sts.session.plausible", lambda transcript, translation: True)
    pcm = silence(0.6) + flite("Good evening and welcome to the harbor festival.") + silence(1.0)
    # alone, so that there is something to compare with; together, each pass waits for its company
    said = {}
    for count, batch in ((1, BatchSettings(size=1)), (3, BatchSettings(size=3, wait_s=0.5))):
        engine = chain(models, batch=batch, asr_batch=batch.size)
        try:
            engine.preload()
            with ThreadPoolExecutor(count) as threads:
                outputs = list(threads.map(lambda _: dub(engine, pcm), range(count)))  # noqa: B023 - used at once
            said[count] = [[s.message.translation for s in found if isinstance(s, Spoken)] for found in outputs]
            asr, mt = engine.batches[:2]
        finally:
            engine.close()
    assert said[1][0] and said[3] == said[1] * 3
    assert asr.items > sum(asr.sizes) and mt.items > sum(mt.sizes)


@pytest.mark.integration
def test_on_a_cpu_only_translation_is_batched_unless_asked_for(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def noted(settings: WhisperSettings) -> WhisperSettings:
        asked.append(settings.batch.size)
        return settings

    monkeypatch.setattr(
        "babelcast.sts.asr.whisper.WhisperEngine",
        lambda name, compute, settings: WhisperEngine(name, compute, noted(settings)),
    )
    chain(models).close()
    chain(models, asr_batch=4).close()
    monkeypatch.setattr(Compute, "device_name", lambda self: "cuda")
    chain(models).close()
    assert asked == [1, 4, 8]


@pytest.mark.integration
@pytest.mark.parametrize("voice", ["espeak-ng", "sherpa"])
def test_the_whole_chain_runs_through_a_session(
    models: dict[str, Path], voice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a random translator babbles, which is what this guard is there to stop
    monkeypatch.setattr("babelcast.sts.session.plausible", lambda transcript, translation: True)
    engine = chain(models, tts=("espeak-ng",) if voice == "espeak-ng" else (f"sherpa:{models['voice']}",))
    try:
        engine.preload()
        assert engine.stages[0] == "faster-whisper (random)" and "opus-mt-en-es" in engine.stages[1]
        outputs = dub(engine, silence(0.6) + flite("Good evening and welcome to the harbor festival.") + silence(1.0))
    finally:
        engine.close()
    spoken = [output for output in outputs if isinstance(output, Spoken)]
    assert spoken and spoken[0].message.transcript.split()[0] in WHISPER_SAYS
    assert spoken[0].message.translation and len(spoken[0].samples) == spoken[0].message.samples > 1_000
    assert spoken[0].message.voice.startswith("espeak-ng:es" if voice == "espeak-ng" else "sherpa:vits-piper-tone/")
    assert any(isinstance(output, Partial) for output in outputs)
    stages = spoken[0].message.stages
    assert stages.asr_ms > 0 and stages.mt_ms > 0 and stages.tts_ms > 0
    if voice == "espeak-ng":
        again = espeak.resynthesize(spoken[0].message.translation, spoken[0].message.voice)
        assert again is not None and np.array_equal(again, spoken[0].samples)


@pytest.mark.integration
def test_one_fragment_by_rest_is_exactly_as_long_as_it_came(models: dict[str, Path]) -> None:
    engine = chain(models)
    try:
        pcm = silence(0.3) + flite("Good evening and welcome to the harbor festival.")[: 4 * SPEECH_RATE]
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)
        result = engine.process(samples, SPEECH_RATE, "en", "es", None, 0)
        quiet = engine.process(np.zeros_like(samples), SPEECH_RATE, "en", "es", None, 1)
    finally:
        engine.close()
    assert len(result.samples) == len(samples) and result.transcript == " ".join(WHISPER_SAYS)
    assert np.abs(result.samples).max() > 0.05 and result.stages.total_ms >= result.stages.asr_ms > 0
    assert not quiet.transcript and not quiet.samples.any()


@pytest.mark.integration
def test_one_recognition_serves_several_languages(models: dict[str, Path]) -> None:
    engine = chain(models, tts=(f"sherpa:{models['voice']}", "espeak-ng"), terms=(Term("harbor", {"es": "muelle"}),))
    try:
        ears = engine.recognizer("en", [Term("Babelcast")])
        targets = [engine.target("en", language) for language in ("es", "de", "fr")]
        ears.start()
        ears.feed(flite("Good evening and welcome to the harbor festival."))
        words = ears.finish()
        assert [word.text for word in words][-1] == "harbor"
        said = [target.render("welcome to the harbor at 8", ends=True, target_s=3.0) for target in targets]
        engine.recycle(ears)
        assert len({one.translation for one in said}) == 3 and "muelle" in said[0].translation
        assert all("8" in one.translation and one.speech and one.mt_ms > 0 for one in said)
        assert all("harbor" in one.translation for one in said[1:])
        assert targets[1].voice_of(0) != targets[1].voice_of(1) == "1/de+m3"
        with pytest.raises(UnsupportedLanguageError, match="from en to ja here"):
            engine.target("en", "ja")
    finally:
        engine.close()


@pytest.mark.integration
def test_sessions_share_one_model(models: dict[str, Path]) -> None:
    engine = chain(models)
    try:
        assert isinstance(engine._asr, WhisperEngine)
        engine.preload()
        loaded = engine._asr._model
        for _ in range(2):
            engine.open(Start(stream_id="s", source_language="en", target_language="es"), "s").close()
        assert engine._asr._model is loaded is not None
    finally:
        engine.close()


@pytest.mark.integration
@pytest.mark.parametrize("others", [(), ("espeak-ng",)])
def test_voices_are_loaded_before_the_first_clause(
    models: dict[str, Path], others: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def noted(path: Path, *rest: Any) -> Any:
        loaded.append(path)
        return load_voice(path, *rest)

    monkeypatch.setattr("babelcast.sts.tts.sherpa.load", noted)
    engine = chain(models, tts=(f"sherpa:{models['voice']}", *others))
    try:
        engine.preload()
        assert loaded == [models["voice"]]
        assert engine.say("buenas noches", "es", None).samples.any() and len(loaded) == 1
    finally:
        engine.close()


@pytest.mark.integration
def test_nothing_is_said_for_noise_and_silence_even_by_a_model_that_always_speaks(models: dict[str, Path]) -> None:
    engine = chain(models)
    try:
        assert not [output for output in dub(engine, silence(2.0) + noise(4.0)) if isinstance(output, Spoken)]
    finally:
        engine.close()


@pytest.mark.integration
def test_the_service_runs_without_torch(models: dict[str, Path]) -> None:
    code = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
sys.modules["torch"] = None  # importing it raises
import babelcast.sts.app, babelcast.sts.serve
assert "ctranslate2" not in sys.modules and "faster_whisper" not in sys.modules, "loaded before it is needed"
from babelcast.sts.device import Compute
from babelcast.sts.engines import EngineSettings, build
engine = build(EngineSettings("faster-whisper:{models["asr"]}", ("ctranslate2:{models["es"]}",),
                              ("sherpa:{models["voice"]}",), Compute("cpu", threads=1)))
engine.preload()
assert engine.target("en", "es").render("good evening", ends=True).speech
loaded = {{name.partition(".")[0] for name in sys.modules if sys.modules[name] is not None}}
assert {{"ctranslate2", "faster_whisper", "sherpa_onnx", "sentencepiece"}} <= loaded
assert not loaded & {{"torch", "transformers", "torchaudio"}}, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.unit
def test_engines_by_name() -> None:
    assert EngineSpec.parse("faster-whisper:small", ASR) == EngineSpec("faster-whisper", "small")
    assert EngineSpec.parse("sherpa:/a/b:c", TTS) == EngineSpec("sherpa", "/a/b:c")
    assert EngineSpec.parse("apertium", MT) == EngineSpec("apertium", None)
    for text, known in (("whisper:small", ASR), ("faster-whisper", ASR), ("espeak-ng:x", TTS), ("", MT)):
        with pytest.raises(ConfigError):
            EngineSpec.parse(text, known)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"asr": "faster-whisper:small"}, "faster-whisper-small"),
        ({"mt": ("ctranslate2:opus-mt-en-fr",)}, "opus-mt-en-fr"),
        ({"tts": ("espeak-ng", "sherpa:kokoro-multi-lang-v1_0")}, "kokoro-multi-lang-v1_0"),
    ],
)
def test_a_model_that_is_missing_names_the_command(
    settings: dict[str, object], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BABELCAST_CACHE", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=f"babelcast models pull {name}"):
        build(EngineSettings(**settings))  # type: ignore[arg-type]
    option, value = next(iter(settings.items()))
    named = value if isinstance(value, str) else f"{value[-1]}"  # type: ignore[index]
    arguments = [f"--{option}", named, "--port", "0"]
    result = CliRunner().invoke(command, arguments)
    assert isinstance(result.exception, MissingDependencyError)


@pytest.mark.unit
def test_a_glossary_file(tmp_path: Path) -> None:
    file = tmp_path / "glossary.yml"
    file.write_text("Babelcast:\npenalty shoot-out:\n  es: tanda de penaltis\n  pt-BR: pênaltis\n")
    assert load_glossary(file) == (
        Term("Babelcast"),
        Term("penalty shoot-out", {"es": "tanda de penaltis", "pt-br": "pênaltis"}),
    )
    for text in ("- a\n", "a: b\n", "a:\n  es: 3\n", "a: [\n"):
        file.write_text(text)
        with pytest.raises(ConfigError, match=r"glossary\.yml"):
            load_glossary(file)


@pytest.mark.integration
def test_silero_from_faster_whisper_hears_speech_and_nothing_else() -> None:
    vad = SileroV6Vad()

    def share(pcm: bytes) -> float:
        vad.reset()
        places = range(0, len(pcm) - CHUNK_BYTES + 1, CHUNK_BYTES)
        return float(np.mean([vad.probability(pcm[place : place + CHUNK_BYTES]) > 0.5 for place in places]))

    speech = flite("Good evening and welcome to the harbor festival.")
    assert share(speech) > 0.7 and share(silence(2.0)) == 0 and share(noise(2.0)) < 0.05
