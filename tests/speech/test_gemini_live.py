"""Gemini Live by the real SDK against a server that speaks its protocol, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import resource
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from tests.fakes.certificates import loopback_tls
from tests.fakes.gemini_server import GeminiServer, gemini_server
from tests.fakes.interpreter import Script
from tests.fakes.virtual_time import LoopClock, run_virtual
from tests.speech.interpreting import TARGET, Sentence, Take, coverage, dub, listen, play, programme, sound

from babelcast.errors import ConfigError, SpeechError, SpeechUnavailableError, UnsupportedLanguageError
from babelcast.speech.base import SpeechTarget
from babelcast.speech.gemini_live import GeminiSettings, close_error, make_gemini
from babelcast.speech.interpreter.session import InterpreterBackend, InterpreterSession
from babelcast.speech.interpreter.settings import InterpreterSettings
from babelcast.speech.retry import RetryBackend
from babelcast.units import NS_PER_S

pytestmark = pytest.mark.integration

QUICK = InterpreterSettings(rotate_after_s=30.0)


@contextlib.asynccontextmanager
async def against(
    script: Callable[[int], Script] | Script | None = None, settings: InterpreterSettings | None = None
) -> AsyncIterator[tuple[GeminiServer, InterpreterBackend]]:
    async with gemini_server(script) as server:
        gemini = GeminiSettings("key", base_url=server.url + "/", tls=loopback_tls()[1])
        backend = make_gemini(gemini, interpreter=settings, clock=LoopClock())
        yield server, backend
        await backend.aclose()
        assert server.faults == []


def interpret(
    sentences: list[Sentence],
    length_s: float,
    script: Callable[[int], Script] | Script | None = None,
    settings: InterpreterSettings | None = None,
) -> tuple[Take, GeminiServer, InterpreterSession]:
    """A programme through one session."""

    async def main() -> tuple[Take, GeminiServer, InterpreterSession]:
        async with against(script, settings) as (server, backend):
            session = await backend.open(TARGET)
            return await dub(session, sentences, length_s), server, session

    return run_virtual(main())


def assert_each_spoken_once(take: Take, sentences: list[Sentence], within_s: float = 0.25) -> None:
    """Every sentence, whole, once, and its span where it was spoken."""
    for found in coverage(sentences, take.segments):
        length = found.sentence.end_s - found.sentence.start_s
        assert abs(found.spoken_s - length) <= 0.12, found
        assert found.off_s is not None and abs(found.off_s) <= within_s, found


def assert_in_order(take: Take) -> None:
    assert [segment.sequence for segment in take.segments] == list(range(len(take.segments)))
    for before, after in itertools.pairwise(take.segments):
        assert before.source_end_ns <= after.source_start_ns
    assert take.progress_s == sorted(take.progress_s)


def test_an_interpreter_is_heard_sentence_by_sentence() -> None:
    sentences = programme(30.0)
    take, server, session = interpret(sentences, 30.0)
    assert_each_spoken_once(take, sentences)
    assert_in_order(take)
    assert take.closed.code == "finished" and not take.lost
    record = server.connections[0]
    assert record.sizes == {3_200}
    assert record.setup["generationConfig"] == {
        "responseModalities": ["AUDIO"],
        "translationConfig": {"echoTargetLanguage": True, "targetLanguageCode": "es"},
    }
    assert {"inputAudioTranscription", "outputAudioTranscription", "sessionResumption"} <= set(record.setup)
    assert "contextWindowCompression" in record.setup
    texts = " ".join(segment.transcript for segment in take.segments)
    assert [f"s{n}." in texts for n in range(len(sentences))] == [True] * len(sentences)
    spoken = " ".join(segment.translation for segment in take.segments)
    assert [f"t{n}." in spoken for n in range(len(sentences) - 1)] == [True] * (len(sentences) - 1)
    assert abs(session.drift_s) < 0.5


@pytest.mark.parametrize("lag_s", [1.5, 3.0, 5.0])
def test_lineage_follows_the_interpreters_lag(lag_s: float) -> None:
    sentences = programme(40.0)
    take, _, _ = interpret(sentences, 40.0, Script(lag_s=lag_s))
    assert_each_spoken_once(take, sentences)
    lags = [usage.lag_s for usage in take.usage if usage.lag_s is not None]
    assert abs(lags[-1] - lag_s) < 0.4


@pytest.mark.parametrize(
    "script",
    [
        Script(step_s=2.0),
        Script(odd=True),
        Script(rates=(24_000, 16_000, 48_000)),
        Script(rates=(24_000,), step_s=0.05),
    ],
    ids=["bursts", "odd", "rates", "crumbs"],
)
def test_sound_in_any_shape(script: Script) -> None:
    sentences = programme(25.0)
    take, _, _ = interpret(sentences, 25.0, script)
    assert_in_order(take)
    # a change of rate in the middle of a sentence cuts it there
    assert_each_spoken_once(take, sentences, within_s=0.8 if script.step_s == 2.0 else 0.25)


def test_input_is_paced_and_has_no_gaps() -> None:
    async def main() -> tuple[list[tuple[float, bool]], int]:
        async with against() as (server, backend):
            session = await backend.open(TARGET)
            listening = asyncio.create_task(listen(session, Take()))
            frames = list(sound([Sentence(0.0, 4.0, 300.0)], 4.0))
            for frame in frames[:20]:
                await session.send(frame)  # at once
            await asyncio.sleep(3.0)  # then nothing
            await play(session, iter(frames[20:]))
            await session.aclose()
            await listening
            return server.connections[0].arrivals, session.dropped_frames

    arrivals, dropped = run_virtual(main())
    gaps = [after[0] - before[0] for before, after in itertools.pairwise(arrivals)]
    assert dropped == 0
    assert max(gaps) <= 0.45 and min(gaps) >= 0.045  # twice the pace at most, to catch up
    assert not all(loud for _, loud in arrivals)


def test_goaway_moves_to_a_fresh_connection_without_a_hole_or_an_echo() -> None:
    sentences = programme(40.0)
    take, server, session = interpret(
        sentences, 40.0, lambda n: Script(goaway_s=10.0, goaway_left_s=9.0) if n == 0 else Script()
    )
    assert_each_spoken_once(take, sentences)
    assert_in_order(take)
    assert session.rotations == 1 and not take.lost
    old, new = server.connections
    assert new.handle is None
    assert old.closed_s is not None and old.closed_s < old.opened_s + 19.0  # we left before we were thrown out
    assert 3.8 <= old.closed_s - new.arrivals[0][0] <= 6.5
    # what the old one heard after the hand-over is silence
    assert not any(loud for at, loud in old.arrivals if at > new.arrivals[0][0] + 0.15)


def test_speech_without_a_pause_is_handed_over_all_the_same() -> None:
    sentences = [Sentence(0.0, 60.0, 300.0)]
    take, server, _ = interpret(sentences, 60.0, None, QUICK)
    assert len(server.connections) == 2
    assert_in_order(take)
    assert sum(found.spoken_s for found in coverage(sentences, take.segments)) == pytest.approx(60.0, abs=0.6)
    assert max(s.source_end_ns - s.source_start_ns for s in take.segments) <= 3 * NS_PER_S


def test_fresh_connection_refused_resumes_by_handle_once_the_old_one_is_closed() -> None:
    def script(number: int) -> Script:
        if number == 0:
            return Script(goaway_s=5.0, goaway_left_s=20.0)
        # a service that allows one connection
        return Script(refuse=(1011, "no capacity")) if number <= 3 else Script()

    sentences = programme(40.0)
    take, server, session = interpret(sentences, 40.0, script)
    assert session.resumptions == 1
    assert server.connections[4].handle == "handle-0"
    assert_in_order(take)
    assert sum(end - start for start, end in take.lost) <= 8.0
    late = [s for s in sentences if s.start_s > 22.0]
    assert_each_spoken_once(take, late, within_s=0.5) if not take.lost else None
    assert take.closed.code == "finished"


@pytest.mark.parametrize(
    ("close", "code", "retryable"),
    [
        ((1007, "Request contains an invalid argument."), "bad_request", False),
        ((1007, "Unsupported language code 'xx'"), "unsupported_language", False),
        ((1008, "model is not found for API version v1beta"), "bad_request", False),
        ((1008, "Permission denied: API key expired"), "unauthorized", False),
        ((1011, "Deadline expired before operation could complete."), "deadline", True),
        ((1011, "You exceeded your current quota"), "overloaded", True),
        ((1011, "Internal error encountered."), "engine_failed", True),
        ((1000, ""), "internal", True),
        ((1006, ""), "internal", True),
    ],
)
def test_close_codes(close: tuple[int, str], code: str, retryable: bool) -> None:
    take, _, _ = interpret_until_closed(Script(close_s=3.0, close=close))
    assert (take.closed.code, take.closed.retryable) == (code, retryable)
    assert close[1] in take.closed.reason

    async def refused() -> SpeechError:
        async with against(Script(refuse=close)) as (_, backend):
            with pytest.raises(SpeechError) as caught:
                await backend.open(TARGET)
            return caught.value

    if close[0] != 1006:
        error = run_virtual(refused())
        assert (error.code, error.retryable) == (code, retryable)
        assert isinstance(error, UnsupportedLanguageError) == (code == "unsupported_language")


def interpret_until_closed(
    script: Script, settings: InterpreterSettings | None = None, length_s: float = 60.0
) -> tuple[Take, GeminiServer, InterpreterSession]:
    async def main() -> tuple[Take, GeminiServer, InterpreterSession]:
        async with against(script, settings) as (server, backend):
            session, take = await backend.open(TARGET), Take()
            listening = asyncio.create_task(listen(session, take))
            with pytest.raises(SpeechError):
                await play(session, sound(programme(length_s), length_s))
            await listening
            await session.aclose()
            return take, server, session

    return run_virtual(main())


def test_a_handle_that_is_refused_is_not_sent_again() -> None:
    error = close_error(1007, "invalid session handle", resuming=True)
    assert error.retryable and isinstance(error, SpeechUnavailableError)
    assert not close_error(1007, "invalid session handle").retryable


def test_no_set_up_is_a_timeout() -> None:
    async def main() -> None:
        async with against(Script(setup="never")) as (_, backend):
            began = asyncio.get_running_loop().time()
            with pytest.raises(SpeechUnavailableError) as caught:
                await backend.open(TARGET)
            assert caught.value.code == "deadline"
            assert asyncio.get_running_loop().time() - began < 6.5

    run_virtual(main())


def test_silence_of_the_service_ends_the_session() -> None:
    take, _, _ = interpret_until_closed(Script(hush_s=6.0))
    assert (take.closed.code, take.closed.retryable) == ("deadline", True)
    assert 13.0 < take.times_s[-1] < 17.0


def test_zeros_instead_of_a_voice_end_the_session() -> None:
    take, _, _ = interpret_until_closed(Script(mute=True))
    assert (take.closed.code, take.closed.retryable) == ("engine_failed", True)
    assert "no sound" in take.closed.reason
    assert not take.segments


def test_a_pause_of_minutes_is_no_failure() -> None:
    sentences = [Sentence(1.0, 3.0, 300.0), Sentence(123.0, 125.0, 340.0)]
    take, server, _ = interpret(sentences, 130.0)
    assert_each_spoken_once(take, sentences)
    assert len(server.connections) == 1
    behind = [at - progress for at, progress in zip(take.times_s, take.progress_s, strict=False) if at > 20]
    assert not take.lost and behind


def test_progress_keeps_up_while_nobody_speaks_and_waits_for_what_is_owed() -> None:
    async def main() -> list[tuple[float, float]]:
        async with against() as (_, backend):
            session, take = await backend.open(TARGET), Take()
            listening = asyncio.create_task(listen(session, take))
            await play(session, sound([Sentence(10.0, 12.0, 300.0)], 25.0))
            await session.aclose()
            await listening
            progress = [e for e in zip(take.times_s, take.events, strict=True) if hasattr(e[1], "processed_until_ns")]
            return [(at, event.processed_until_ns / NS_PER_S) for at, event in progress]  # type: ignore[union-attr]

    told = run_virtual(main())
    assert all(at - progress < 1.0 for at, progress in told if 1.0 < at < 10.0 or at > 19.0)
    assert all(progress <= 10.1 for at, progress in told if at < 13.0)
    assert all(at - progress < 7.5 for at, progress in told)  # the delay of 6 s and the fallback's 1.5 s


def test_a_voice_without_a_source_is_not_spoken() -> None:
    take, _, _ = interpret([], 20.0, Script(chatter=True))
    assert not take.segments
    assert take.progress_s[-1] == pytest.approx(20.0, abs=0.01)


def test_dropped_connections_cost_little_behind_retry() -> None:
    async def main() -> tuple[Take, GeminiServer]:
        async with against(lambda n: Script(close_s=12.3, close=(1006, "")) if n < 2 else Script()) as (
            server,
            backend,
        ):
            retrying = RetryBackend(backend, clock=LoopClock())
            return await dub(await retrying.open(TARGET), sentences, 60.0), server

    sentences = programme(60.0)
    take, server = run_virtual(main())
    assert len(server.connections) == 3
    assert_in_order(take)
    found = coverage(sentences, take.segments)
    spoken = sum(one.spoken_s for one in found) / sum(one.sentence.end_s - one.sentence.start_s for one in found)
    assert 0.75 < spoken <= 1.05


def test_the_key_is_in_no_log_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> str:
        async with gemini_server() as server:
            gemini = GeminiSettings("sEcReT-kEy", base_url=server.url, tls=loopback_tls()[1])
            backend = make_gemini(gemini, clock=LoopClock())
            with pytest.raises(SpeechError) as caught:
                await backend.open(TARGET)
            await backend.aclose()
            return str(caught.value)

    said = run_virtual(main())
    logged = [record.getMessage() for record in caplog.records if record.name != "websockets.server"]
    assert "sEcReT-kEy" not in said + " ".join(logged)
    with pytest.raises(ConfigError, match="API key"):
        make_gemini(GeminiSettings(""))


def test_a_proxy_of_the_environment_does_not_catch_a_server_that_the_config_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    take, _, _ = interpret(programme(5.0), 5.0)
    assert take.segments


def test_cost_counts_both_ways_by_the_price_list() -> None:
    take, _, session = interpret(programme(30.0), 30.0)
    usd = sum(usage.usd for usage in take.usage)
    assert usd == pytest.approx(session.meter.usd)
    seconds = session.meter.seconds_in
    assert 30.0 <= seconds <= 36.0
    assert usd / seconds * 3_600 == pytest.approx(2.21, abs=0.05)


def test_ten_minutes_of_rotations() -> None:
    """The hour below in small: every 30 s a new connection."""
    sentences = programme(150.0)
    take, server, session = interpret(sentences, 150.0, None, QUICK)
    assert_each_spoken_once(take, sentences)
    assert_in_order(take)
    assert session.rotations >= 4 and not take.lost
    assert len(server.connections) == session.rotations + 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_hour() -> None:
    """GoAway after 9.5 min of each connection, cut at 10 min: nothing is lost, nothing twice, memory flat."""
    sentences = programme(3_600.0)
    memory: list[int] = []

    async def main() -> tuple[Take, GeminiServer, InterpreterSession]:
        async with against(Script(goaway_s=570.0, goaway_left_s=30.0)) as (server, backend):
            session = await backend.open(TARGET)
            watching = asyncio.create_task(watch(memory))
            take = await dub(session, sentences, 3_600.0)
            watching.cancel()
            return take, server, session

    began = time.monotonic()
    take, _, session = run_virtual(main())
    spoken = coverage(sentences, take.segments)
    assert_each_spoken_once(take, sentences)
    assert_in_order(take)
    assert session.rotations >= 6 and not take.lost
    grown = memory[-1] - memory[len(memory) // 6]
    held = sum(segment.samples.nbytes for segment in take.segments)
    print(
        f"an hour in {time.monotonic() - began:.0f} s: {len(spoken)} sentences, {len(take.segments)} segments, "
        f"{session.rotations} rotations, drift {session.drift_s:.2f} s, ${session.meter.usd:.3f}, "
        f"memory +{grown / 1e6:.0f} MB, of which the test's own segments {held / 1e6:.0f} MB"
    )
    # the test itself keeps every segment and every chunk's arrival
    assert grown < held + 60e6


async def watch(memory: list[int]) -> None:
    while True:
        with open("/proc/self/statm") as file:
            memory.append(int(file.read().split()[1]) * resource.getpagesize())
        await asyncio.sleep(60)


def test_targets_with_regions_are_sent_as_they_are() -> None:
    async def main() -> object:
        async with against() as (server, backend):
            session = await backend.open(replace(TARGET, target_language="pt-BR"))
            await session.aclose()
            return server.connections[0].setup["generationConfig"]

    assert "pt-BR" in str(run_virtual(main()))
    assert SpeechTarget("show", "en", "es") == TARGET
