"""The pure parts of an interpreter's session: chunks, the gate, pieces of speech; and what it costs."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from tests.fakes.speech import frames, noise, silence, sine
from tests.fakes.virtual_time import LoopClock, run_virtual

from babelcast.errors import ConfigError
from babelcast.spec import BackendSpec
from babelcast.speech.cost import GEMINI_LIVE, OPENAI_TRANSLATE, Budget, CostMeter, Price, gemini_price
from babelcast.speech.factory import make_backend
from babelcast.speech.interpreter.connection import Message, Sound
from babelcast.speech.interpreter.inbox import Chunk, Gate, Inbox
from babelcast.speech.interpreter.leg import Leg
from babelcast.speech.interpreter.settings import InterpreterSettings
from babelcast.speech.interpreter.voice import Piece, Voice
from babelcast.units import NS_PER_S, SpeechFrame

pytestmark = pytest.mark.unit

MINUTE = 60 * NS_PER_S


def test_chunks_are_equal_and_keep_their_source_times() -> None:
    inbox = Inbox(5.0, 200)
    pcm = sine(1.0)
    for start, length in ((0, 700), (700, 2_500), (3_200, 12_800)):
        inbox.put(SpeechFrame(start * NS_PER_S // 16_000, pcm[2 * start : 2 * (start + length)]))
    chunks = []
    while chunk := inbox.take():
        chunks.append(chunk)
    assert b"".join(chunk.pcm for chunk in chunks) == pcm
    assert [chunk.start_ns for chunk in chunks] == [n * NS_PER_S // 5 for n in range(5)]
    assert [chunk.end_ns for chunk in chunks] == [n * NS_PER_S // 5 for n in range(1, 6)]


def test_the_last_chunk_is_filled_up() -> None:
    inbox = Inbox(5.0, 100)
    inbox.put(SpeechFrame(0, sine(0.05)))
    assert inbox.take() is None
    last = inbox.take(last=True)
    assert last is not None and len(last.pcm) == 3_200 and last.end_ns == NS_PER_S // 20
    assert inbox.take(last=True) is None


def test_a_full_inbox_drops_the_oldest_and_says_which() -> None:
    inbox = Inbox(1.0, 100)
    gone = [inbox.put(frame) for frame in frames(sine(1.5))]
    assert inbox.dropped == 5 and inbox.held_s == pytest.approx(1.0)
    assert gone[-1] == (round(0.4 * NS_PER_S), round(0.5 * NS_PER_S))
    first = inbox.take()
    assert first is not None and first.start_ns == NS_PER_S // 2


def test_the_gate_stands_over_a_steady_noise() -> None:
    gate = Gate(-50.0, -65.0)
    hum = [frame.pcm for frame in frames(noise(5.0, 0.01))]
    assert not any(gate.judge(pcm)[0] for pcm in hum[1:])
    assert all(gate.judge(frame.pcm) == (True, True) for frame in frames(sine(1.0)))
    assert gate.judge(silence(0.1)) == (False, False)


def pieces_of(pcm: bytes, sizes: list[int], rate: int = 16_000) -> list[Piece]:
    voice, at = Voice(2.5, -50.0), 0
    found: list[Piece] = []
    while at < len(pcm):
        size = sizes[len(found) % len(sizes)]
        found += voice.add(Sound(pcm[at : at + size], rate))
        at += size
    return found + voice.flush()


@pytest.mark.parametrize("size", [1, 333, 8_000, 1_000_000])
def test_pieces_are_the_same_for_chunks_of_any_size(size: int) -> None:
    pcm = silence(1.0) + sine(1.0) + silence(1.0) + sine(6.0) + silence(1.0)
    pieces = pieces_of(pcm, [size])
    assert [(piece.opens, piece.closes) for piece in pieces] == [
        (True, True),
        (True, False),
        (False, False),
        (False, True),
    ]
    assert max(len(piece.samples) for piece in pieces) <= 2.6 * 16_000
    loud = sum(np.count_nonzero(np.abs(piece.samples) > 0.01) for piece in pieces)
    assert loud == pytest.approx(7.0 * 16_000, rel=0.05)
    for piece in pieces:
        assert piece.end_ns - piece.start_ns == pytest.approx(len(piece.samples) / 16_000 * NS_PER_S, abs=10)


def test_long_speech_is_cut_at_its_quietest_place() -> None:
    pcm = sine(2.0) + sine(0.06, level=0.01) + sine(2.0) + silence(0.5)
    first = pieces_of(pcm, [3_200])[0]
    assert 1.98 <= len(first.samples) / 16_000 <= 2.08


def test_a_change_of_rate_cuts_without_a_pause() -> None:
    voice = Voice(2.5, -50.0)
    assert voice.add(Sound(sine(1.0), 16_000)) == []
    pieces = voice.add(Sound(sine(1.0), 24_000)) + voice.flush()
    assert [(piece.rate, piece.opens, piece.closes) for piece in pieces] == [
        (16_000, True, False),
        (24_000, False, False),
    ]


def test_a_service_that_takes_no_more_sound_is_noticed() -> None:
    """Its socket is open and nobody reads there: a write waits for ever."""

    class Hung:
        async def send_audio(self, pcm: bytes) -> None:
            await asyncio.sleep(3_600)

        async def receive(self) -> list[Message]:
            await asyncio.sleep(3_600)
            return []

        async def finish(self) -> bool:
            await asyncio.sleep(3_600)
            return True

        async def aclose(self) -> None:
            pass

    async def main() -> None:
        leg = Leg(Hung(), 0, CostMeter(GEMINI_LIVE), LoopClock(), InterpreterSettings())
        async with asyncio.timeout(20.0):
            await leg.hear(Chunk(silence(0.1), 0, NS_PER_S // 10))
            assert leg.error is not None and leg.error.code == "deadline" and leg.error.retryable
            assert await leg.finish()
        assert leg.lineage.sent_until_ns is None

    run_virtual(main())


def test_the_list_prices() -> None:
    assert GEMINI_LIVE.usd_per_hour == pytest.approx(2.205)
    assert OPENAI_TRANSLATE.usd_per_hour == pytest.approx(2.04)
    assert gemini_price(GEMINI_LIVE, None, 0.0).usd_per_hour == pytest.approx(0.315)
    assert gemini_price(GEMINI_LIVE, None, None) is GEMINI_LIVE


def test_a_meter_tells_each_second_once() -> None:
    meter = CostMeter(Price(0.01, 0.02, "test"))
    meter.seconds_in, meter.seconds_out = 10.0, 5.0
    assert meter.take() == pytest.approx((0.2, 10.0, 5.0))
    meter.seconds_in = 11.0
    assert meter.take() == pytest.approx((0.01, 1.0, 0.0))
    assert meter.usd == pytest.approx(0.21)


def test_a_budget_is_of_the_last_hour_and_needs_a_tenth_to_be_free_again() -> None:
    budget = Budget(60.0)
    for minute in range(60):
        assert not budget.reached(minute * MINUTE)
        budget.add(1.0, minute * MINUTE)
    assert budget.reached(59 * MINUTE)
    wait_s = budget.wait_s(59 * MINUTE)
    assert budget.reached(62 * MINUTE)  # three dollars are free again, which is not enough
    assert not budget.reached(59 * MINUTE + round(wait_s * NS_PER_S))
    assert 6 * 60 <= wait_s <= 9 * 60


def test_the_factory_makes_the_clouds_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("GEMINI_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    for kind in ("gemini-live", "openai-realtime"):
        with pytest.raises(ConfigError, match="API key"):
            make_backend(BackendSpec(kind=kind))
    monkeypatch.setenv("GEMINI_API_KEY", "g")
    monkeypatch.setenv("OPENAI_API_KEY", "o")
    names = [each.name for kind in ("gemini-live", "openai-realtime") if (each := make_backend(BackendSpec(kind=kind)))]
    assert names == ["gemini-live", "openai-realtime"]
