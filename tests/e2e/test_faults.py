"""What breaks while a stream is on air: pictures and sound go on, the fallback is heard, and the dub comes back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.programs import (
    Program,
    Up,
    Viewer,
    babelcast,
    config_text,
    free_port,
    program,
    publishing,
    until,
    up,
    watching,
)
from tests.fakes.bad_speech_service import BadSpeechService
from tests.fakes.rtmp_destination import FakeDestination
from tests.worker.media import sound

pytestmark = pytest.mark.e2e

_RATE = 48_000


async def _fallback(running: Up, within_s: float = 25.0) -> str:
    """Wait until the original is heard instead of the dub; what is said of the reason."""

    async def in_force() -> bool:
        return bool((await running.target()).get("fallback") == "original")

    await until(in_force, "the fallback is in force", within_s)
    target = await running.target()
    return str(target["last_error"])


async def _dubbed(running: Up, within_s: float = 25.0) -> None:
    """Wait until the dub is on air, with segments that are new."""
    before = (await running.target()).get("segments", 0)

    async def on_air() -> bool:
        target = await running.target()
        return bool(target and target["fallback"] is None and target["segments"] > before + 1)

    await until(on_air, "the dub is on air", within_s)


def _never_stopped(viewer: Viewer) -> dict[str, float]:
    gaps = viewer.longest_gaps()
    assert gaps["video dts"] < 0.2 and gaps["audio dts"] < 0.1, gaps  # 25 pictures a second, AAC of 21 ms
    assert gaps["video arrival"] < 2 and gaps["audio arrival"] < 2, gaps
    return gaps


@contextlib.asynccontextmanager
async def _speech_service(port: int) -> AsyncIterator[Program]:
    """The real one with the tone engine."""
    async with program(*babelcast("sts", "--port", str(port), "--engine", "tone")) as service:
        await service.says("sts ready")
        yield service


async def test_a_speech_service_that_is_dead_dies_and_hangs(talk: Path, tmp_path: Path) -> None:
    port = free_port()
    text = config_text(tmp_path, settings="delay: 3", more=f'speech: {{url: "http://127.0.0.1:{port}"}}')
    heard: dict[str, tuple[float, float]] = {}
    async with (
        up(tmp_path, text) as running,
        watching(running.watch_url, tmp_path / "out.flv") as viewer,
        publishing(talk, running.publish_url),
    ):
        await until(lambda: viewer.video, "a picture")
        assert f"speech service at http://127.0.0.1:{port} can't be reached: connection refused" in (
            await _fallback(running)
        )
        assert "connection refused" in (await running.stream())["last_error"]
        await asyncio.sleep(4)
        heard["original"] = (0.0, viewer.audio[-1][1])
        async with _speech_service(port) as service:
            await _dubbed(running)
            assert (await running.target())["last_error"] is None
            began = viewer.audio[-1][1]
            await asyncio.sleep(2)
            heard["dub"] = (began + 1, viewer.audio[-1][1])
            service.process.kill()
            assert "speech service" in await _fallback(running)
            await until(lambda: _says(running, "can't be reached"), "the reason")
        async with _speech_service(port) as service:
            await _dubbed(running)
            service.process.send_signal(signal.SIGSTOP)
            assert await _fallback(running)
            hung = await until(lambda: _reason(running), "a reason", 15)
            assert "says nothing" in hung or "does not answer" in hung
            service.process.send_signal(signal.SIGCONT)
            await _dubbed(running)
        log = await (await running.http.get(running.api + "/api/v1/streams/show/logs")).text()
        fallback_s = (await running.target())["fallback_seconds"]
    print(f"speech service away: {fallback_s:.1f} s of fallback, gaps {_never_stopped(viewer)}")
    assert fallback_s > 5
    assert "connection refused" in log and "fallback in force" in log and "dub on air again" in log
    assert "Traceback" not in log
    shares = {name: _tone_share(tmp_path / "out.flv", *span) for name, span in heard.items()}
    # a vowel can be nearly a tone too, for a moment
    assert shares["original"] < 0.5 < 0.8 < shares["dub"], shares


async def _reason(running: Up) -> str | None:
    reason: str | None = (await running.target())["last_error"]
    return reason


def _tone_share(file: Path, start_s: float, end_s: float) -> float:
    """How much of the loud time between two moments of a recording is a single tone, as the tone engine's dub is."""
    samples = sound(file)[round(start_s * _RATE) : round(end_s * _RATE)]
    blocks = samples[: len(samples) // 4_800 * 4_800].reshape(-1, 4_800)
    power = np.abs(np.fft.rfft(blocks * np.hanning(4_800), axis=1)) ** 2
    middle = power.argmax(axis=1).clip(2, power.shape[1] - 3)[:, None]
    peak = np.take_along_axis(power, middle + np.arange(-2, 3)[None], axis=1)
    loud = np.sqrt((blocks**2).mean(axis=1)) > 0.02
    pure = peak.sum(axis=1) > 0.9 * power.sum(axis=1)
    return float((loud & pure).sum() / max(1, loud.sum()))


async def test_a_speech_service_that_is_slow_or_talks_nonsense(talk: Path, tmp_path: Path) -> None:
    async with BadSpeechService().listening() as service:
        text = config_text(tmp_path, settings="delay: 3", more=f'speech: {{url: "{service.url}"}}')
        async with (
            up(tmp_path, text) as running,
            watching(running.watch_url, tmp_path / "out.flv") as viewer,
            publishing(talk, running.publish_url),
        ):
            await until(lambda: viewer.video, "a picture")
            await _dubbed(running)
            service.behaviour = "slow"
            await _fallback(running)
            service.behaviour = "well"
            await _dubbed(running)
            service.behaviour = "garbage"
            assert "not a message of the protocol" in await _fallback(running)
            service.behaviour = "refuse"
            await until(lambda: _says(running, "too many sessions"), "the service's own reason", 20)
            service.behaviour = "too much"
            await _dubs_are_dropped(running)
            service.behaviour = "well"
            await _dubbed(running)
            worker = (await running.stream())["worker"]
        print(f"speech service odd: gaps {_never_stopped(viewer)}, worker {worker['resident_bytes'] >> 20} MiB")
    assert (worker["generation"], worker["failures"]) == (1, 0)


async def _says(running: Up, words: str) -> bool:
    return words in str(await _reason(running))


async def _dubs_are_dropped(running: Up) -> None:
    """What can't be spoken in time is dropped and counted; the delay stays."""
    before = (await running.target())["dropped_segments"]

    async def more() -> bool:
        return bool((await running.target())["dropped_segments"] > before)

    await until(more, "dropped segments", 25)


async def test_source_destination_and_speech_service_come_back(talk: Path, tmp_path: Path) -> None:
    platform = FakeDestination(behaviour="refuse")
    async with platform.listening():
        text = config_text(
            tmp_path,
            settings="delay: 2, backend: tone",
            stream=f'destinations: [{{name: platform, url: "{platform.url}", key: a-stream-key}}]',
        )
        async with up(tmp_path, text) as running, watching(running.watch_url, tmp_path / "out.flv") as viewer:
            async with publishing(talk, running.publish_url):
                await _dubbed(running)
                await _refused_then_accepted(running, platform)
                await _own_speech_service_restarted(running)
            await _source_away(running, viewer)
            async with publishing(talk, running.publish_url):
                back = time.monotonic()
                await _dubbed(running)
                print(f"dub on air {time.monotonic() - back:.1f} s after the source was back")
            assert len(platform.sessions) == 1 and not platform.sessions[0].closed
            assert (await running.stream())["worker"]["generation"] == 1
        gaps = viewer.longest_gaps()
        print(f"source away for 5 s: gaps {gaps}")
        assert gaps["audio arrival"] < 2 and gaps["audio dts"] < 0.1, gaps
        assert "a-stream-key" not in running.program.text


async def _refused_then_accepted(running: Up, platform: FakeDestination) -> None:
    async def state() -> dict[str, object]:
        found: dict[str, object] = (await running.stream())["destinations"][0]
        return found

    async def refused() -> bool:
        return bool((await state())["last_error"])

    await until(refused, "the destination's refusal")
    assert "a-stream-key" not in str((await state())["last_error"])
    assert (await state())["state"] in ("retrying", "failed", "connecting")
    platform.behaviour = "accept"

    async def live() -> bool:
        return (await state())["state"] == "live"

    await until(live, "the destination is live", 40)


async def _own_speech_service_restarted(running: Up) -> None:
    [pid] = running.program.processes("babelcast sts")
    os.kill(pid, signal.SIGKILL)
    await until(lambda: running.program.processes("babelcast sts") not in ([pid], []), "another speech service")
    await _dubbed(running)
    await running.program.says("speech service .* ended with status -9, restarting")


async def _source_away(running: Up, viewer: Viewer) -> None:
    """5 s; sound goes on as silence."""

    async def warned() -> bool:
        return any("source is lost" in warning for warning in (await running.stream())["warnings"])

    await until(warned, "a warning")
    before = len(viewer.audio)
    await asyncio.sleep(4.5)
    assert len(viewer.audio) > before + 100
