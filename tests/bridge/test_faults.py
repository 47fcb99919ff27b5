"""Faults of ours and of the machine: the other parts of the bridge go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from babelcast.bridge import encoder
from babelcast.bridge.programme import Programme
from babelcast.bridge.recorder import Recorder, Recording
from babelcast.bridge.service import _keep
from babelcast.bridge.settings import load
from babelcast.bridge.sound import Sound
from babelcast.errors import BabelcastError
from babelcast.slate.silence import SilenceAac

pytestmark = pytest.mark.integration


async def test_a_fault_of_ours_does_not_end_the_programme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("babelcast.bridge.programme._AGAIN_S", 0.0)
    begun = asyncio.Event()
    faults = [IndexError("a fault of ours")]

    async def publish() -> None:
        if faults:
            raise faults.pop()
        begun.set()
        await asyncio.Event().wait()

    silence, nothing = SilenceAac(b"", b""), lambda *_: None
    programme = Programme(load({"SLATE": "off"}), "libx264", Sound(), silence, "rtmp://127.0.0.1:1/x", nothing)
    monkeypatch.setattr(programme, "_publish_forever", publish)
    task = asyncio.create_task(programme.run())
    async with asyncio.timeout(5):
        await begun.wait()
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_source_that_is_lost_again_while_the_slate_ends_gets_another_slate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slates, ended = 0, asyncio.Event()

    async def slate(text_file: str) -> None:
        nonlocal slates
        slates += 1
        try:
            await asyncio.Event().wait()
        finally:
            await ended.wait()  # ffmpeg takes its time

    async def publish() -> None:
        await asyncio.Event().wait()

    silence, nothing = SilenceAac(b"", b""), lambda *_: None
    programme = Programme(load({"SLATE": "on"}), "libx264", Sound(), silence, "rtmp://127.0.0.1:1/x", nothing)
    monkeypatch.setattr(programme, "_slate_once", slate)
    monkeypatch.setattr(programme, "_publish_forever", publish)
    task = asyncio.create_task(programme.run())
    async with asyncio.timeout(5):
        while not slates:
            await asyncio.sleep(0)
        programme._switched("source")
        for _ in range(10):
            await asyncio.sleep(0)
        programme._leave()
        ended.set()
        while slates < 2:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_state_of_the_sound_is_that_of_the_latest_choice() -> None:
    sound = Sound()
    task = asyncio.create_task(sound.run())
    for source, state in (("input", "input"), ("/there/is/no/such.wav", "connecting"), ("silence", "silence")):
        sound.use(source)
        async with asyncio.timeout(5):
            while sound.state != state:
                await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_fault_of_ours_does_not_end_the_sound(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("babelcast.bridge.service._AGAIN_S", 0.0)
    faults, played = [IndexError("a fault of ours")], asyncio.Event()

    async def play(address: str) -> BabelcastError:
        if faults:
            raise faults.pop()
        played.set()
        await asyncio.Event().wait()
        raise AssertionError

    sound = Sound()
    monkeypatch.setattr(sound, "_play", play)
    sound.use("/a/file.wav")
    task = asyncio.create_task(_keep(sound.run))
    async with asyncio.timeout(5):
        await played.wait()
    assert "it begins again" in caplog.text
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_recorder_survives_the_loss_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(wanted: Recording) -> tuple[int, int, int]:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("babelcast.bridge.recorder._tidy", lost)
    monkeypatch.setattr("babelcast.bridge.command.record", lambda *_: ["sleep", "60"])
    recorder = Recorder("rtmp://127.0.0.1:1/x", look_s=0.01)
    recorder.use(Recording(tmp_path, 1.0, 1))
    task = asyncio.create_task(recorder.run())
    async with asyncio.timeout(5):
        while recorder.state != "retrying":
            await asyncio.sleep(0.01)
    assert "can't look into" in str(recorder.last_error)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_fault_of_ours_does_not_end_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("babelcast.bridge.service._AGAIN_S", 0.0)
    faults, recorded = [IndexError("a fault of ours")], asyncio.Event()

    async def record(wanted: Recording) -> BabelcastError:
        if faults:
            raise faults.pop()
        recorded.set()
        await asyncio.Event().wait()
        raise AssertionError

    recorder = Recorder("rtmp://127.0.0.1:1/x")
    monkeypatch.setattr(recorder, "_record", record)
    recorder.use(Recording(tmp_path, 1.0, 1))
    task = asyncio.create_task(_keep(recorder.run))
    async with asyncio.timeout(5):
        await recorded.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_encoder_that_is_given_up_as_it_starts_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[asyncio.subprocess.Process] = []
    connecting = asyncio.Event()

    async def spawn(words: list[str], fds: list[int]) -> asyncio.subprocess.Process:
        started.append(await _spawn(words, fds))
        return started[0]

    async def never(fd: int, ours: object) -> asyncio.StreamReader:
        connecting.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def read(out: asyncio.StreamReader) -> None:
        await out.read()

    _spawn = encoder._spawn
    monkeypatch.setattr(encoder, "_spawn", spawn)
    monkeypatch.setattr(encoder, "_reader", never)
    task = asyncio.create_task(encoder.Ffmpeg(lambda pipes: ["sleep", "60"]).run(read))
    async with asyncio.timeout(5):
        await connecting.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    running = started[0].returncode is None
    if running:
        started[0].kill()
        await started[0].communicate()
    assert not running
