"""OpenAI's Realtime translation against a server that speaks its protocol, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.fakes.interpreter import Script
from tests.fakes.openai_realtime_server import OpenAiServer, openai_server
from tests.fakes.virtual_time import LoopClock, run_virtual
from tests.speech.interpreting import TARGET, Sentence, Take, coverage, dub, listen, play, programme, sound

from babelcast.errors import SpeechError, SpeechUnavailableError, UnsupportedLanguageError
from babelcast.speech.interpreter.session import InterpreterSession
from babelcast.speech.interpreter.settings import InterpreterSettings
from babelcast.speech.openai_realtime import OpenAiSettings, event_error, make_openai, messages_of, status_error

pytestmark = pytest.mark.integration


def interpret(
    sentences: list[Sentence],
    length_s: float,
    script: Callable[[int], Script] | Script | None = None,
    settings: InterpreterSettings | None = None,
    expires_in_s: float = 3_600.0,
) -> tuple[Take, OpenAiServer, InterpreterSession]:
    async def main() -> tuple[Take, OpenAiServer, InterpreterSession]:
        async with openai_server(script) as server:
            server.expires_in_s = expires_in_s
            openai = OpenAiSettings("key", base_url=server.url)
            backend = make_openai(openai, interpreter=settings, clock=LoopClock())
            session = await backend.open(TARGET)
            take = await dub(session, sentences, length_s)
            await backend.aclose()
            assert server.faults == []
            return take, server, session

    return run_virtual(main())


def assert_each_spoken_once(take: Take, sentences: list[Sentence]) -> None:
    for found in coverage(sentences, take.segments):
        assert abs(found.spoken_s - (found.sentence.end_s - found.sentence.start_s)) <= 0.12, found
        assert found.off_s is not None and abs(found.off_s) <= 0.3, found
    for before, after in itertools.pairwise(take.segments):
        assert before.source_end_ns <= after.source_start_ns


def test_an_interpreter_is_heard_sentence_by_sentence() -> None:
    sentences = programme(30.0)
    take, server, session = interpret(sentences, 30.0)
    assert_each_spoken_once(take, sentences)
    assert take.closed.code == "finished" and not take.lost
    record = server.connections[0]
    audio = record.setup["audio"]
    assert isinstance(audio, dict) and audio["output"] == {"language": "es"}
    assert audio["input"]["transcription"] == {"model": "gpt-realtime-whisper"}
    assert all(abs(size - 9_600) <= 900 for size in record.sizes)  # 200 ms at 24 kHz, as the resampler gives it
    assert "s3." in " ".join(segment.transcript for segment in take.segments)
    usd = sum(usage.usd for usage in take.usage)
    assert usd == pytest.approx(session.meter.seconds_in / 60 * 0.034)


def test_rotation_closes_the_old_session_by_its_own_word() -> None:
    sentences = programme(70.0)
    take, server, session = interpret(sentences, 70.0, None, InterpreterSettings(rotate_after_s=30.0))
    assert_each_spoken_once(take, sentences)
    assert session.rotations >= 2 and not take.lost
    assert len(server.connections) == session.rotations + 1


def test_a_session_that_expires_is_left_in_time() -> None:
    sentences = programme(30.0)
    take, server, session = interpret(sentences, 30.0, lambda n: Script(), None, expires_in_s=70.0)
    assert_each_spoken_once(take, sentences)
    assert session.rotations >= 1 and server.connections[0].closed_s is not None
    assert server.connections[0].closed_s - server.connections[0].opened_s < 25.0


@pytest.mark.parametrize(
    ("close", "code", "retryable"),
    [
        ((1000, ""), "internal", True),
        ((1006, ""), "internal", True),
        ((1011, "keepalive ping timeout"), "engine_failed", True),
        ((1008, "policy"), "bad_request", False),
        ((500, "Your session hit the maximum duration"), "engine_failed", True),
    ],
)
def test_ends_of_a_session(close: tuple[int, str], code: str, retryable: bool) -> None:
    async def main() -> Take:
        async with openai_server(Script(close_s=4.0, close=close)) as server:
            backend = make_openai(OpenAiSettings("key", base_url=server.url), clock=LoopClock())
            session, take = await backend.open(TARGET), Take()
            listening = asyncio.create_task(listen(session, take))
            with pytest.raises(SpeechError):
                await play(session, sound(programme(30.0), 30.0))
            await listening
            await session.aclose()
            await backend.aclose()
            return take

    take = run_virtual(main())
    assert (take.closed.code, take.closed.retryable) == (code, retryable)


def refused(script: Script | None = None, model: str = "gpt-realtime-translate", language: str = "es") -> SpeechError:
    async def main() -> SpeechError:
        async with openai_server(script) as server:
            backend = make_openai(OpenAiSettings("key", model=model, base_url=server.url), clock=LoopClock())
            with pytest.raises(SpeechError) as caught:
                await backend.open(replace(TARGET, target_language=language))
            await backend.aclose()
            await asyncio.sleep(1.0)
            assert server.open == 0
            return caught.value

    return run_virtual(main())


def test_refusals_when_opening() -> None:
    language = refused(language="xx")
    assert isinstance(language, UnsupportedLanguageError) and not language.retryable
    model = refused(model="gpt-none")
    assert (model.code, model.retryable) == ("bad_request", False)
    nobody = refused(Script(setup="never"))
    assert (nobody.code, nobody.retryable) == ("deadline", True)


def test_regions_are_left_out_of_the_language() -> None:
    async def main() -> object:
        async with openai_server() as server:
            backend = make_openai(OpenAiSettings("key", base_url=server.url), clock=LoopClock())
            session = await backend.open(replace(TARGET, target_language="es-MX"))
            await session.aclose()
            await backend.aclose()
            return server.connections[0].setup["audio"]

    assert "'language': 'es'" in str(run_virtual(main()))


def test_errors_of_the_handshake_and_of_events() -> None:
    assert [status_error(n, "").retryable for n in (400, 401, 404, 429, 500, 503)] == [False] * 3 + [True] * 3
    assert event_error({"type": "invalid_request_error", "code": "invalid_event"}) is None
    expired = event_error({"type": "server_error", "code": "session_expired", "message": "over"})
    assert isinstance(expired, SpeechUnavailableError)
    quota = event_error({"type": "insufficient_quota", "code": "insufficient_quota"})
    assert quota is not None and not quota.retryable


def test_events_that_nobody_knows_and_sound_that_is_broken() -> None:
    assert messages_of({"type": "session.something_new"}) == []
    assert messages_of({}) == []
    for broken in ({"delta": "%%%"}, {"delta": "AAAA", "format": "g711"}, {"delta": "AAAA", "channels": 2}):
        with pytest.raises(SpeechError):
            messages_of({"type": "session.output_audio.delta", **broken})
