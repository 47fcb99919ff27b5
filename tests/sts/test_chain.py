"""The chain with the engines that come with it, on flite's speech."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import pytest_asyncio
from tests.fakes.speech import flite, frames, music, noise, silence

from babelcast.errors import SpeechError, SpeechUnavailableError, UnsupportedLanguageError
from babelcast.speech.base import ClosedEvent, ProgressEvent, SegmentEvent, SpeechEvent, SpeechTarget
from babelcast.speech.sts_stream import StsStreamBackend
from babelcast.sts.asr.pocketsphinx import PocketsphinxEngine
from babelcast.sts.asr.pocketsphinx_child import fit_for_air
from babelcast.sts.chain import ChainEngine, place
from babelcast.sts.engine import Spoken
from babelcast.sts.engines import EngineSettings, build
from babelcast.sts.mt.apertium import ApertiumTranslator, as_spelt, commands, installed_pairs
from babelcast.sts.serve import serving
from babelcast.sts.service import Limits, Service
from babelcast.sts.tts import espeak
from babelcast.units import NS_PER_S, SPEECH_RATE
from babelcast.wire import PROCESS_PATH, ProcessRequest, ProcessResponse, Progress, Start

pytestmark = pytest.mark.integration

SENTENCES = (
    ("slt", "Good evening and welcome to the harbor festival.", ("bienvenido", "festival")),
    ("rms", "Tomorrow there will be a race with twenty small boats.", ("mañana", "veinte", "botes")),
    ("slt", "The winner will receive a silver cup and a large amount of money.", ("ganador", "dinero")),
)


@pytest.fixture(scope="module")
def engine() -> Iterator[ChainEngine]:
    engine = build(EngineSettings())
    engine.preload()
    yield engine
    engine.close()


def talk() -> bytes:
    return silence(0.7) + b"".join(flite(text, voice) + silence(0.3) for voice, text, _ in SENTENCES) + silence(0.5)


def dub(engine: ChainEngine, pcm: bytes) -> tuple[list[Spoken], int]:
    """What is spoken, and where the progress ends."""
    session = engine.open(Start(stream_id="s", source_language="en", target_language="es"), "s")
    try:
        outputs = [output for frame in frames(pcm) for output in session.push(frame.start_ns, frame.pcm)]
        outputs += session.finish()
    finally:
        session.close()
    done = [output.processed_until_ns for output in outputs if isinstance(output, Progress)]
    return [output for output in outputs if isinstance(output, Spoken)], done[-1]


def test_sentences_are_heard_translated_and_spoken_in_order(engine: ChainEngine) -> None:
    spoken, _ = dub(engine, talk())
    spanish = " ".join(output.message.translation for output in spoken).lower()
    expected = [word for _, _, words in SENTENCES for word in words]
    found = [word for word in expected if word in spanish]
    assert len(found) >= len(expected) - 1, spanish
    assert [spanish.index(word) for word in found] == sorted(spanish.index(word) for word in found)
    for before, after in itertools.pairwise(spoken):
        assert before.message.source_end_ns <= after.message.source_start_ns


def test_segments_can_be_made_again_from_what_they_say(engine: ChainEngine) -> None:
    spoken, _ = dub(engine, silence(0.5) + flite(SENTENCES[0][1]) + silence(0.6))
    message = spoken[0].message
    again = espeak.resynthesize(message.translation, message.voice)
    assert again is not None and np.array_equal(again, spoken[0].samples)
    assert message.sample_rate == espeak.RATE and message.samples == len(again)


@pytest.mark.parametrize("sound", [silence, noise, music], ids=["silence", "noise", "music"])
def test_nothing_is_said_for_what_is_no_speech(engine: ChainEngine, sound: type) -> None:
    spoken, done = dub(engine, sound(8.0))
    assert not spoken
    assert done >= 7.7 * NS_PER_S


async def test_over_the_wire_two_sessions_at_once() -> None:
    async def one(backend: StsStreamBackend, name: str) -> list[SpeechEvent]:
        session = await backend.open(SpeechTarget(name, "en", "es"))
        collecting = asyncio.create_task(collect(session.events()))
        for frame in frames(talk()):
            await session.send(frame)
            await asyncio.sleep(0.04)
        await session.finish()
        events = await collecting
        await session.aclose()
        return events

    async def collect(events: AsyncIterator[SpeechEvent]) -> list[SpeechEvent]:
        return [event async for event in events]

    async with serving(Service(build(EngineSettings(spares=2)))) as url:
        backend = StsStreamBackend(url)
        async with asyncio.timeout(60):
            all_events = await asyncio.gather(*(one(backend, name) for name in ("one", "two")))
        await backend.aclose()
    for events in all_events:
        segments = [event.segment for event in events if isinstance(event, SegmentEvent)]
        assert len(segments) >= 3
        assert [segment.sequence for segment in segments] == list(range(len(segments)))
        assert any(isinstance(event, ProgressEvent) for event in events)
        assert events[-1] == ClosedEvent("finished", "all was dubbed", retryable=False)


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    async with serving(Service(build(EngineSettings()), Limits(sessions=1))) as url:
        yield url


async def test_rest_round_trip_is_exact_and_says_what_it_heard(url: str) -> None:
    pcm = flite(SENTENCES[0][1])[: 2 * 2 * SPEECH_RATE]
    body = ProcessRequest(
        fragment_id="f",
        stream_id="s",
        sequence_number=0,
        duration_ms=2_000,
        sample_rate=SPEECH_RATE,
        channels=1,
        audio=base64.b64encode(pcm).decode(),
        source_language="en",
        target_language="es-419",
    )
    async with aiohttp.ClientSession() as http:
        async with http.post(url + PROCESS_PATH, data=body.model_dump_json()) as response:
            answer = ProcessResponse.model_validate_json(await response.text())
        french = body.model_copy(update={"target_language": "fr"})
        async with http.post(url + PROCESS_PATH, data=french.model_dump_json()) as response:
            refusal = (response.status, (await response.json())["code"])
    audio = np.frombuffer(base64.b64decode(answer.audio), "<i2")
    assert len(audio) == len(pcm) // 2
    assert np.abs(audio).max() > 3_000
    assert "evening" in answer.transcript and "tarde" in answer.translation.lower()
    assert answer.stages.total_ms >= answer.stages.asr_ms > 0
    assert refusal == (422, "unsupported_language")


def test_recogniser_that_dies_is_an_engine_failure_and_is_replaced() -> None:
    engine = PocketsphinxEngine()
    try:
        recognizer = engine.open()
        recognizer._child.kill()
        recognizer._child.wait()
        with pytest.raises(SpeechError) as caught:
            recognizer.start()
            recognizer.finish()
        assert caught.value.code == "engine_failed" and caught.value.retryable
        engine.recycle(recognizer)
        fresh = engine.open()
        fresh.start()
        fresh.feed(flite("Good evening and welcome."))
        assert [word.text for word in fresh.finish()][:2] == ["good", "evening"]
        fresh.close()
    finally:
        engine.close()


def test_a_recogniser_that_can_not_start_says_why_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pocketsphinx.py").write_text("raise ImportError('its library is broken')")
    engine = PocketsphinxEngine()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SpeechUnavailableError, match="log says why"):
        engine.open()
    assert "its library is broken" in capfd.readouterr().err


def test_apertium_takes_any_text_and_comes_back_after_a_death() -> None:
    translator = ApertiumTranslator()
    try:
        assert translator.translate("the captain eats the food", "en", "es").startswith("el capitán come")
        assert translator.translate("The captain eats the food", "en", "es").startswith("El capitán come")
        assert "Londres" in translator.translate("we were in london", "en", "es-419")
        for text in ("[live] in $5 ^houses/ @home\\ * <b>", "", "   ", "zorgblat", "a\0b\nc", "ñ" * 50):
            assert "*" not in translator.translate(text, "en", "es").replace("\\*", "")
        stage = translator._pipelines["en", "es"]._stages[2]
        stage.kill()
        assert translator.translate("the cat", "en", "es") == "el gato"
        with pytest.raises(UnsupportedLanguageError):
            translator.translate("the cat", "en", "fr")
    finally:
        translator.close()
    assert not translator._pipelines


def test_apertium_in_a_process_with_many_files_open() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1_200:
        pytest.skip("this machine allows few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(2_048, hard)), hard))
    translator, taken = ApertiumTranslator(), [os.open("/dev/null", os.O_RDONLY)]
    try:
        while taken[-1] < 1_024:
            taken.append(os.dup(taken[0]))
        assert translator.translate("the cat", "en", "es") == "el gato"
    finally:
        translator.close()
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_is_misheard_can_not_be_a_swear_word() -> None:
    kept = "ship SH IH P\nsheet SH IY T\nassume AH S UW M\n"
    assert fit_for_air("shit SH IH T\n" + kept + "bullshit(2) B UH L SH IH T\n") == kept


@pytest.mark.parametrize(
    ("answer", "text", "spelt"),
    [
        ("Hola Todo el mundo", "hello everyone", "hola todo el mundo"),
        ("El presidente de EE.UU.", "the president of the usa", "el presidente de EE.UU."),
        ("Estuvimos en Londres", "we were in London", "estuvimos en Londres"),
        ("Londres llama", "London calling", "Londres llama"),
        ("Y tranquilo", "and quiet", "y tranquilo"),
    ],
)
def test_capitals_are_the_sources(answer: str, text: str, spelt: str) -> None:
    assert as_spelt(answer, text) == spelt


def test_apertium_modes() -> None:
    assert commands("lt-proc 'a b.bin' | lt-proc $1 x | tagger -g $2 y") == [
        ["lt-proc", "-z", "a b.bin"],
        ["lt-proc", "-z", "-g", "x"],
        ["tagger", "-z", "-g", "y"],
    ]


def test_apertium_pairs_under_the_names_of_old_and_new_packages(tmp_path: Path) -> None:
    for name in ("eng-spa", "spa-eng_US", "en-eo", "eng-hbs_HR", "Cyrl-Latn", "README"):
        (tmp_path / f"{name}.mode").touch()
    assert {pair: mode.stem for pair, mode in installed_pairs(tmp_path).items()} == {
        ("en", "es"): "eng-spa",
        ("en", "eo"): "en-eo",
    }


def test_apertium_s_marks_are_not_read_out(monkeypatch: pytest.MonkeyPatch) -> None:
    translator = ApertiumTranslator()
    monkeypatch.setattr(translator, "_ask", lambda pair, text: "la *zorgblat #volver a @home a las 5#3 C#")
    assert translator.translate("x", "en", "es") == "la zorgblat volver a home a las 5#3 C#"
    translator.close()


def test_espeak_is_deterministic_trimmed_and_fits() -> None:
    text = "Miles de personas han venido a la ciudad."
    synthesizer = espeak.EspeakSynthesizer()
    voice = synthesizer.resolve("es", None)
    plain = synthesizer.speak(text, voice)
    assert np.array_equal(plain.samples, espeak.synthesize(text, voice, espeak.NORMAL_WPM))
    assert np.abs(plain.samples[:300]).max() > 0.004 and np.abs(plain.samples[-300:]).max() > 0.004
    fitted = synthesizer.speak(text, voice, plain.duration_s / 1.2)
    assert plain.duration_s / 1.3 < fitted.duration_s < plain.duration_s / 1.1
    hurried = synthesizer.speak(text, voice, 0.1)
    assert hurried.duration_s > plain.duration_s / (espeak.MAX_TEMPO + 0.1)
    assert not len(espeak.synthesize("", voice, 170))


def test_a_text_is_said_by_the_voice_that_was_asked_for(engine: ChainEngine) -> None:
    plain = engine.say("  Bienvenidos \n al partido ", "es", None)
    assert 0.8 < len(plain.samples) / plain.rate < 3 and float(np.abs(plain.samples).max()) > 0.1
    male = engine.say("Bienvenidos al partido.", "es", "male")
    assert male.voice != plain.voice and plain.stages.tts_ms > 0
    with pytest.raises(UnsupportedLanguageError):
        engine.say("x", "xx", None)
    with pytest.raises(SpeechError, match="nothing to say"):
        engine.say(" ... ", "es", None)


def test_espeak_voices() -> None:
    synthesizer = espeak.EspeakSynthesizer()
    assert synthesizer.resolve("es", None) == "es+f2"
    assert synthesizer.resolve("es-419", "male") == "es-419+m3"
    assert synthesizer.resolve("es-AR", "es-419+f5") == "es-419+f5"
    for language, voice in (("xx", None), ("es", "en-us"), ("es", "es;rm")):
        with pytest.raises(UnsupportedLanguageError):
            synthesizer.resolve(language, voice)
    assert espeak.resynthesize("hola", "tone") is None


def test_place_is_exact_and_never_overflows() -> None:
    speech = np.ones(500, np.float32)
    assert np.flatnonzero(place(speech, 200, 1_000, 16_000))[[0, -1]].tolist() == [200, 699]
    assert np.flatnonzero(place(speech, 800, 1_000, 16_000))[[0, -1]].tolist() == [500, 999]
    short = place(speech, 0, 300, 16_000)
    assert len(short) == 300 and short[-1] == 0
