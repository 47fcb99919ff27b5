"""The streaming recogniser with scripted passes, and with the real library on a model of half a megabyte."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.fakes.speech import noise, silence
from tests.fakes.tiny_models import WHISPER_SAYS, whisper

from babelcast.errors import ConfigError, MissingDependencyError, SpeechUnavailableError, UnsupportedLanguageError
from babelcast.sts.asr.base import AsrOptions, Word
from babelcast.sts.asr.whisper import WhisperEngine, WhisperRecognizer, WhisperSettings, whisper_code
from babelcast.sts.asr.whisper_model import Hypothesis, Request
from babelcast.sts.batching import BatchSettings
from babelcast.sts.device import Compute
from babelcast.units import Pcm

SCRIPT = "we saw ten ships near town today while people danced there until the sun was gone and we went home".split()
WORD_MS = 400
CPU = Compute(device="cpu", threads=1)


class ScriptedWhisper:
    """Hears one word of :data:`SCRIPT` every 400 ms of the utterance; the last one in the window is misheard.

    Where the window is in the utterance is written in the samples: their value is the time in s / 100.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Hypothesis:
        self.requests.append(request)
        start_ms = round(float(request.samples[0]) * 100_000)
        length_ms = len(request.samples) // 16
        words = []
        for number, text in enumerate(SCRIPT):
            at, end = number * WORD_MS - start_ms, (number + 1) * WORD_MS - start_ms
            if at >= 0 and at < length_ms:
                words.append(Word(text if end < length_ms else text[:2] + "x", at, min(end, length_ms), 0.9))
        return Hypothesis(words, "en", 0.9)


def ramp(start_ms: int, length_ms: int) -> bytes:
    times = np.repeat(np.arange(start_ms, start_ms + length_ms), 16) / 100_000
    return (times * 32_768).round().astype("<i2").tobytes()


def hear(recognizer: WhisperRecognizer, length_ms: int, each: Callable[[int], None] = lambda at: None) -> list[Word]:
    recognizer.start()
    for at in range(0, length_ms, 32):
        recognizer.feed(ramp(at, 32))
        each(at)
    return recognizer.finish()


def text(words: list[Word]) -> str:
    return " ".join(word.text for word in words)


@pytest.mark.unit
def test_passes_come_in_steps_and_words_become_final() -> None:
    decode = ScriptedWhisper()
    recognizer = WhisperRecognizer(decode, AsrOptions("en"), WhisperSettings(step_ms=800, first_ms=900))
    finals: list[str] = []

    def each(at: int) -> None:
        found = recognizer.partial()
        final = [word.text for word in found if word.final]
        assert final[: len(finals)] == finals
        finals[:] = final

    found = hear(recognizer, 4_000, each)
    assert text(found[:-1]) == " ".join(SCRIPT[:9]) and len(found) == 10
    lengths = [len(request.samples) // 16 for request in decode.requests]
    assert lengths[0] == 928 and all(b - a >= 800 for a, b in itertools.pairwise(lengths[:-1]))
    assert len(decode.requests) == 5 and len(finals) >= 6
    assert [request.beam for request in decode.requests] == [1, 1, 1, 1, 3]
    assert all(word.final for word in found)


@pytest.mark.unit
def test_what_is_heard_does_not_depend_on_the_size_of_the_frames() -> None:
    settings = WhisperSettings()
    by_chunk = hear(WhisperRecognizer(ScriptedWhisper(), AsrOptions("en"), settings), 3_200)
    at_once = WhisperRecognizer(ScriptedWhisper(), AsrOptions("en"), settings)
    at_once.start()
    at_once.feed(ramp(0, 3_200))
    assert text(at_once.finish()).startswith(text(by_chunk)[:-2])


@pytest.mark.unit
def test_a_long_utterance_slides_and_every_word_comes_once() -> None:
    decode = ScriptedWhisper()
    recognizer = WhisperRecognizer(decode, AsrOptions("en"), WhisperSettings(window_ms=3_000))
    found = hear(recognizer, WORD_MS * len(SCRIPT))
    assert text(found[:-1]) == " ".join(SCRIPT[:-1])
    assert all(abs(word.start_ms - WORD_MS * number) <= 5 for number, word in enumerate(found))
    assert max(len(request.samples) for request in decode.requests) <= 16 * 4_000
    assert "we saw ten" in decode.requests[-1].prompt


@pytest.mark.unit
def test_the_utterance_before_is_the_prompt_and_hints_come_along() -> None:
    decode = ScriptedWhisper()
    recognizer = WhisperRecognizer(decode, AsrOptions("en-GB", ("Babelcast",)), WhisperSettings())
    hear(recognizer, 1_600)
    hear(recognizer, 1_600)
    assert decode.requests[0].prompt == "" and decode.requests[-1].prompt.startswith("we saw ten")
    assert decode.requests[0].hints == ("Babelcast",) and decode.requests[0].language == "en"


@pytest.mark.unit
def test_a_language_is_detected_once_and_kept() -> None:
    certain = [0.4, 0.9, 0.9]
    asked: list[str | None] = []

    def decode(request: Request) -> Hypothesis:
        asked.append(request.language)
        return Hypothesis([], "es", certain[min(len(asked) - 1, 2)])

    recognizer = WhisperRecognizer(decode, AsrOptions(), WhisperSettings(first_ms=1_600))
    assert recognizer.language is None
    hear(recognizer, 4_000)
    assert asked == [None, None, "es", "es"] and recognizer.language == "es"


@pytest.mark.unit
def test_loops_and_more_words_than_fit_are_not_believed() -> None:
    def decode(request: Request) -> Hypothesis:
        return Hypothesis([Word(f"w{number}", number, number + 1) for number in range(60)], "en")

    assert hear(WhisperRecognizer(decode, AsrOptions("en"), WhisperSettings()), 2_000) == []


@pytest.mark.unit
def test_codes() -> None:
    assert [whisper_code(tag) for tag in ("en-GB", "nb", "zh-Hant", "fil")] == ["en", "no", "zh", "tl"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper(tmp_path_factory.mktemp("models") / "faster-whisper-random")


@pytest.mark.integration
def test_the_real_library_decodes_a_tiny_model_without_the_network(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*args: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    engine = WhisperEngine(str(model))
    assert "es" in engine.languages and engine.name == "faster-whisper (random)"
    recognizer = engine.open(AsrOptions("en"))
    recognizer.start()
    for _ in range(25):
        recognizer.feed(noise(0.1))
    assert [word.text for word in recognizer.partial() if word.final] == list(WHISPER_SAYS)
    found = recognizer.finish()
    assert [word.text for word in found] == list(WHISPER_SAYS)
    assert all(0 <= word.start_ms <= word.end_ms <= 2_500 and word.probability > 0.9 for word in found)
    recognizer.close()
    engine.close()
    with pytest.raises(SpeechUnavailableError):
        engine.open()


def sounds(count: int) -> list[Pcm]:
    """Noises of 1.1 to 3 s, none like another."""
    random = np.random.default_rng(5)
    return [
        (0.1 * random.normal(size=16 * length)).astype(np.float32)
        for length in np.linspace(1_100, 3_000, count, dtype=int)
    ]


@pytest.mark.integration
def test_passes_of_several_sessions_go_in_one_batch_and_come_out_as_alone(model: Path) -> None:
    asked = [Request(samples, "en", "", ("Babelcast",), 3) for samples in sounds(6)]
    alone = WhisperEngine(str(model), CPU, WhisperSettings(batch=BatchSettings(size=1)))
    expected = [alone.decode(request) for request in asked]
    alone.close()
    together = WhisperEngine(str(model), CPU, WhisperSettings(batch=BatchSettings(size=len(asked), wait_s=5.0)))
    together.preload()
    with ThreadPoolExecutor(len(asked)) as threads:
        found = list(threads.map(together.decode, asked))
    together.close()
    assert found == expected and all(hypothesis.words for hypothesis in found)
    assert len({hypothesis.words[-1].end_ms for hypothesis in found}) > 1
    assert sum(together.batches.sizes) == 1 and together.batches.items == 6


@pytest.mark.integration
def test_a_pass_hears_what_the_librarys_own_transcription_hears(model: Path) -> None:
    from faster_whisper import WhisperModel

    library = WhisperModel(str(model), device="cpu", compute_type="int8", local_files_only=True)
    engine = WhisperEngine(str(model), CPU, WhisperSettings(pad_s=30))
    for samples in sounds(3):
        # with its space 32 of this model's tokens, of which nothing is cut off
        for prompt in ("", "good evening and welcome to the"):
            ours = engine.decode(Request(samples, "en", prompt, ("Babelcast",), 3))
            segments, _ = library.transcribe(
                samples,
                language="en",
                beam_size=3,
                temperature=0.0,
                condition_on_previous_text=False,
                hotwords="Babelcast",
                initial_prompt=prompt or None,
                word_timestamps=True,
                without_timestamps=True,
                max_new_tokens=160,
                no_speech_threshold=None,
                log_prob_threshold=None,
                compression_ratio_threshold=None,
            )
            theirs = next(iter(segments), None)
            words = [(word.word.strip(), word.start, word.end) for word in (theirs.words or [])] if theirs else []
            assert [word.text for word in ours.words] == [text for text, _, _ in words]
            for word, (_, start, end) in zip(ours.words, words, strict=True):
                assert abs(word.start_ms - 1000 * start) <= 20 and abs(word.end_ms - 1000 * end) <= 20
    engine.close()


@pytest.mark.integration
def test_silence_and_detection_run_on_the_real_library(model: Path) -> None:
    engine = WhisperEngine(str(model))
    recognizer = engine.open(AsrOptions(hints=("Babelcast", "Marvão")))
    recognizer.start()
    recognizer.feed(silence(2.0))
    recognizer.finish()
    with pytest.raises(UnsupportedLanguageError):
        engine.open(AsrOptions("xx"))
    engine.close()


@pytest.mark.integration
def test_what_is_missing_or_broken_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BABELCAST_CACHE", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="babelcast models pull faster-whisper-small"):
        WhisperEngine("faster-whisper-small")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDependencyError, match=r"no model\.bin"):
        WhisperEngine(str(tmp_path / "empty")).preload()
    broken = whisper(tmp_path / "broken")
    (broken / "model.bin").write_bytes((broken / "model.bin").read_bytes()[:5_000])
    with pytest.raises(MissingDependencyError, match="babelcast models verify broken"):
        WhisperEngine(str(broken)).preload()


@pytest.mark.integration
def test_devices_and_precisions(model: Path) -> None:
    assert Compute(device="cpu").type_name() == "int8" and Compute(device="cpu").device_name() == "cpu"
    with pytest.raises(ConfigError, match="does not run on this cpu"):
        WhisperEngine(str(model), Compute(device="cpu", kind="nonsense")).preload()
    engine = WhisperEngine(str(model), Compute(device="cpu", kind="float32", threads=1))
    engine.preload()
    engine.close()
