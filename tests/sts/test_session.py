"""The session's logic with scripted engines: one word every 400 ms of speech, translated to itself."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from tests.fakes.speech import frames, silence, sine

from babelcast.sts.asr.base import Word
from babelcast.sts.chain import TargetChain
from babelcast.sts.engine import Output, Spoken
from babelcast.sts.session import DubSession
from babelcast.sts.tts.base import Speech
from babelcast.sts.vad import CHUNK
from babelcast.units import NS_PER_MS, NS_PER_S, SPEECH_RATE
from babelcast.wire import Progress, Resume, Start, Voice

pytestmark = pytest.mark.unit

WORD_MS = 400
SCRIPT = "we saw ten ships near town today while people danced there".split()


class LoudnessVad:
    def probability(self, chunk: bytes) -> float:
        return float(np.abs(np.frombuffer(chunk, "<i2")).max() > 500)

    def reset(self) -> None:
        pass


class CountingRecognizer:
    """The words of ``SCRIPT`` by source time: each word is a tone of its own level, read back from the samples."""

    language = "en"

    def __init__(self) -> None:
        self.audio = b""
        self.closed = False

    def start(self) -> None:
        self.audio = b""

    def feed(self, pcm: bytes) -> None:
        self.audio += pcm

    def partial(self) -> list[Word]:
        samples = np.abs(np.frombuffer(self.audio, "<i2").astype(float))
        step = SPEECH_RATE // 100
        levels = [samples[place : place + step].max() for place in range(0, len(samples) - step + 1, step)]
        numbers = [round(level / 2_000) - 1 for level in levels]
        found = []
        place = 0
        for number, run in itertools.groupby(numbers):
            length = len(list(run))
            if number >= 0 and length >= 5:
                found.append(Word(SCRIPT[number % len(SCRIPT)], place * 10, (place + length) * 10, 0.9))
            place += length
        return found

    def finish(self) -> list[Word]:
        return self.partial()

    def close(self) -> None:
        self.closed = True


class EchoTranslator:
    name = "echo"
    pairs = (("en", "es"),)

    def preload(self, source: str, target: str) -> None:
        pass

    def translate(self, text: str, source: str, target: str) -> str:
        return text

    def close(self) -> None:
        pass


class BeepSynthesizer:
    name = "beep"
    voices: tuple[Voice, ...] = ()

    def __init__(self) -> None:
        self.targets: list[float | None] = []

    def preload(self) -> None:
        pass

    def resolve(self, language: str, voice: str | None) -> str:
        return "beep"

    def pick(self, language: str, speaker: int, gender: str | None = None) -> str:
        return "beep"

    def speak(self, text: str, voice: str, target_s: float | None = None) -> Speech:
        self.targets.append(target_s)
        return Speech(np.full(int(0.7 * len(text.split()) * 22_050), 0.1, np.float32), 22_050, voice)

    def close(self) -> None:
        pass


def talk(*numbers: int) -> bytes:
    """Words by their number in the script, each 400 ms with its own level."""
    return b"".join(sine(WORD_MS / 1000, 400.0, (number + 1) * 2_000 / 32_767) for number in numbers)


def make(
    *languages: str,
    synthesizer: BeepSynthesizer | None = None,
    resume: Resume | None = None,
    voice: str | None = None,
    recognizer: CountingRecognizer | None = None,
    lead_words: int = 0,
) -> DubSession:
    languages = languages or ("es",)
    return DubSession(
        Start(stream_id="show", source_language="en", target_languages=languages, resume=resume, voice=voice),
        "s",
        vad=LoudnessVad(),
        recognizer=recognizer or CountingRecognizer(),
        targets=[
            TargetChain("en", language, "beep", EchoTranslator(), synthesizer or BeepSynthesizer())
            for language in languages
        ],
        lead_words=lead_words,
    )


def run(session: DubSession, pcm: bytes, start_ns: int = 0) -> list[Output]:
    out = [output for frame in frames(pcm, start_ns) for output in session.push(frame.start_ns, frame.pcm)]
    return out + session.finish()


def spoken(outputs: list[Output]) -> list[Spoken]:
    return [output for output in outputs if isinstance(output, Spoken)]


def test_a_pause_ends_a_clause_and_its_span_is_the_source() -> None:
    start_ns = 90 * NS_PER_S
    found = spoken(run(make(), silence(0.5) + talk(0, 1, 2) + silence(0.6) + talk(3, 4) + silence(0.6), start_ns))
    assert [output.message.transcript for output in found] == ["we saw ten", "ships near"]
    chunk_ns = CHUNK * NS_PER_S // SPEECH_RATE
    for output, start_s, end_s in zip(found, (0.5, 2.3), (1.7, 3.1), strict=True):
        assert abs(output.message.source_start_ns - start_ns - start_s * NS_PER_S) <= 2 * chunk_ns
        assert abs(output.message.source_end_ns - start_ns - end_s * NS_PER_S) <= 3 * chunk_ns
    assert [output.message.sequence for output in found] == [0, 1]


def test_speech_that_runs_on_is_cut_and_every_word_is_said_once() -> None:
    numbers = list(range(11))
    found = spoken(run(make(), talk(*numbers, *numbers) + silence(0.5)))
    assert len(found) >= 2
    said = " ".join(output.message.transcript for output in found).split()
    assert said == SCRIPT + SCRIPT
    for before, after in itertools.pairwise(found):
        assert before.message.source_end_ns <= after.message.source_start_ns
        assert before.message.source_end_ns - before.message.source_start_ns <= 4_200 * NS_PER_MS
        assert before.message.translation.endswith(",")


def test_behind_a_cut_the_words_before_it_are_heard_again_and_not_said_again() -> None:
    class Listening(CountingRecognizer):
        def __init__(self) -> None:
            super().__init__()
            self.heard: list[list[str]] = []

        def finish(self) -> list[Word]:
            words = super().finish()
            self.heard.append([word.text for word in words])
            return words

    recognizer = Listening()
    found = spoken(run(make(recognizer=recognizer, lead_words=2), silence(0.5) + talk(*range(11)) + silence(0.6)))
    plain = spoken(run(make(), silence(0.5) + talk(*range(11)) + silence(0.6)))
    said = [output.message.transcript.split() for output in found]
    assert len(said) > 1 and [word for words in said for word in words] == SCRIPT
    for before, after, heard in zip(said, said[1:], recognizer.heard[1:], strict=False):
        assert heard[:2] == before[-2:] and heard[2:][: len(after)] == after
    spans = [(output.message.source_start_ns, output.message.source_end_ns) for output in found]
    assert spans == [(output.message.source_start_ns, output.message.source_end_ns) for output in plain]


def test_only_a_sentences_first_clause_has_a_capital() -> None:
    found = spoken(run(make(), silence(0.5) + talk(*range(11)) + silence(0.6)))
    first, *middle, last = [output.message.translation for output in found]
    assert first[0].isupper() and all(text[0].islower() for text in (*middle, last))
    assert first.endswith(",") and last.endswith(".")


def test_a_recogniser_that_writes_stops_says_where_the_sentence_ends() -> None:
    class Writing(CountingRecognizer):
        def partial(self) -> list[Word]:
            return [replace(word, text=word.text.replace("ships", "ships.")) for word in super().partial()]

    found = spoken(run(make(recognizer=Writing()), silence(0.5) + talk(*range(11)) + silence(0.6)))
    said = [output.message.translation for output in found]
    assert said[0] == "We saw ten ships." and said[1][0].isupper()


def test_no_clause_waits_longer_than_the_limit() -> None:
    session = make()
    pcm = talk(*range(11), *range(11))
    for frame in frames(pcm):
        for output in session.push(frame.start_ns, frame.pcm):
            if isinstance(output, Spoken):
                assert frame.end_ns - output.message.source_start_ns <= 4_200 * NS_PER_MS


def test_progress_follows_the_input_closely_where_nobody_speaks() -> None:
    session = make()
    done = 0
    for frame in frames(silence(3.0)):
        for output in session.push(frame.start_ns, frame.pcm):
            if isinstance(output, Progress):
                done = output.processed_until_ns
        assert frame.end_ns - done <= 300 * NS_PER_MS


def test_progress_never_passes_speech_that_is_not_delivered_yet() -> None:
    done = 0
    for output in run(make(), silence(0.5) + talk(0, 1, 2, 3) + silence(1.0) + talk(*range(11)) + silence(1.0)):
        if isinstance(output, Progress):
            assert output.processed_until_ns >= done
            done = output.processed_until_ns
        elif isinstance(output, Spoken):
            assert output.message.source_start_ns >= done
    assert done > 7 * NS_PER_S


def test_a_click_is_not_speech() -> None:
    assert not spoken(run(make(), silence(0.5) + sine(0.1, 400.0, 2_000 / 32_767) + silence(1.0)))


def test_a_hole_in_the_source_ends_the_clause_and_the_timeline_goes_on_behind_it() -> None:
    session = make()
    out = [output for frame in frames(talk(0, 1, 2)) for output in session.push(frame.start_ns, frame.pcm)]
    later = 60 * NS_PER_S
    out += [output for frame in frames(talk(3, 4), later) for output in session.push(frame.start_ns, frame.pcm)]
    out += session.finish()
    first, second = (output.message for output in spoken(out))
    assert first.transcript == "we saw ten" and first.source_end_ns <= 1_300 * NS_PER_MS
    assert second.transcript == "ships near" and second.source_start_ns >= later


def test_a_dub_that_runs_late_makes_the_next_one_shorter() -> None:
    synthesizer = BeepSynthesizer()
    session = make(synthesizer=synthesizer)
    run(session, talk(0, 1, 2) + silence(0.4) + talk(3, 4, 5) + silence(0.6))
    first, second = synthesizer.targets
    assert first is not None and second is not None
    assert second < first


def test_close_frees_the_recogniser() -> None:
    session = make()
    session.close()
    assert session._recognizer.closed  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("detected", "said"),
    [
        ("en", "EN: we saw ten."),  # translated
        ("es", "We saw ten."),  # what is spoken in the target language already stays as it is
        ("ja", None),  # nobody here translates it
    ],
)
def test_a_detected_language_decides_what_becomes_of_a_clause(detected: str, said: str | None) -> None:
    class Detecting(CountingRecognizer):
        language = detected

    class Marking(EchoTranslator):
        def translate(self, text: str, source: str, target: str) -> str:
            return f"{source.upper()}: {text}"

    session = DubSession(
        Start(stream_id="show", source_language="und", target_language="es"),
        "s",
        vad=LoudnessVad(),
        recognizer=Detecting(),
        targets=[TargetChain("und", "es", "beep", Marking(), BeepSynthesizer())],
    )
    found = spoken(run(session, silence(0.5) + talk(0, 1, 2) + silence(0.6)))
    assert [output.message.translation for output in found] == ([said] if said else [])


def test_one_recognition_speaks_in_every_language() -> None:
    found = spoken(run(make("es", "fr", "de"), silence(0.5) + talk(0, 1, 2) + silence(0.6) + talk(3, 4) + silence(0.6)))
    assert [output.message.language for output in found] == ["es", "fr", "de"] * 2
    assert [output.message.sequence for output in found] == list(range(6))
    assert {output.message.transcript for output in found} == {"we saw ten", "ships near"}


def test_a_session_that_goes_on_says_nothing_twice() -> None:
    pcm = silence(0.5) + talk(0, 1, 2) + silence(0.6) + talk(3, 4) + silence(0.6)
    first, second = spoken(run(make(), pcm))
    resume = Resume(token="t", answered_until_ns=first.message.source_end_ns, next_sequence=1)
    again = spoken(run(make(resume=resume), pcm))
    assert [(output.message.sequence, output.message.transcript) for output in again] == [(1, "ships near")]
    assert again[0].message.segment_id == second.message.segment_id
