"""The media bridge with real SRT publishers and RTMP receivers."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from babelcast.media_server.mediamtx import Ports, run_mediamtx
from tests.bridge.rig import (
    BACKUP_KEY,
    FPS,
    KEY,
    PASSPHRASE,
    SMALL,
    arguments_of_children,
    bridging,
    brightness,
    children,
    free_udp_port,
    hears,
    largest_gap_ms,
    loudness,
    pictures,
    publisher,
    sounds,
    to,
    until,
)
from tests.conftest import mediamtx_binary
from tests.e2e.programs import ffmpeg
from tests.fakes.rtmp_destination import FakeDestination

pytestmark = [pytest.mark.e2e]

_FRAME_MS = 1_000 // FPS


def _started(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _srt(port: int) -> tuple[str, str]:
    """(the bridge's address, the publisher's)"""
    end = f"srt://127.0.0.1:{port}?passphrase={PASSPHRASE}"
    return f"{end}&mode=listener", end


async def test_a_destination_dies_and_the_other_loses_nothing(
    caplog: pytest.LogCaptureFixture, free_port: Callable[[], int]
) -> None:
    caplog.set_level(logging.DEBUG)
    ours, theirs = _srt(free_udp_port())
    primary, backup = FakeDestination(), FakeDestination(port=free_port())
    async with primary.listening(), bridging({"SRT_URL": ours} | to(primary, backup)) as bridge:
        async with backup.listening():  # not there at first either
            with publisher(theirs):
                await until(lambda: bool(primary.sessions and backup.sessions))
                await until(lambda: bridge.status().state == "live" and len(pictures(backup.sessions[0])) > FPS)
                shown = "\n".join(line for line in arguments_of_children().splitlines() if theirs not in line)
                backup.hang_up()
                before = len(pictures(primary.sessions[0]))
                await until(lambda: len(backup.sessions) > 1 and len(pictures(backup.sessions[-1])) > FPS)
                backup.behaviour = "stop reading"
                backup.hang_up()
                await until(lambda: len(pictures(primary.sessions[0])) > before + 4 * FPS)
                status = bridge.status()
                metrics = status.model_dump_json()
    assert len(primary.sessions) == 1, "the other one was disturbed"
    after = pictures(primary.sessions[0])[before - FPS // 2 :]
    assert largest_gap_ms(after) <= _FRAME_MS + 1, "a picture is missing at the other one"
    assert largest_gap_ms(sounds(primary.sessions[0])[-100:]) <= 23
    named = {each.name: each for each in status.destinations}
    assert named["primary"].state == "live" and named["primary"].reconnects == 0
    assert named["backup"].reconnects >= 1
    assert status.source.bitrate_kbps > 0 and status.encoder.bitrate_kbps > 0 and status.encoder.fps > 0
    for secret in (KEY, BACKUP_KEY, PASSPHRASE):
        assert secret not in shown and secret not in metrics and secret not in caplog.text
    assert "ffmpeg" in shown


async def test_the_source_dies_and_comes_back_in_the_same_sessions() -> None:
    ours, theirs = _srt(free_udp_port())
    primary = FakeDestination()
    async with primary.listening(), bridging({"SRT_URL": ours} | to(primary)) as bridge:
        await until(lambda: bridge.status().state == "slate" and bool(primary.sessions))
        session = primary.sessions[0]
        for number in range(2):
            with publisher(theirs):
                await until(lambda: bridge.status().state == "live")
                count = len(pictures(session))
                await until(lambda count=count: len(pictures(session)) > count + FPS)  # type: ignore[misc]
            if number == 0:
                await until(lambda: bridge.status().state == "slate")
                count = len(pictures(session))
                await until(lambda count=count: len(pictures(session)) > count + FPS // 2)  # type: ignore[misc]
        assert bridge.status().source.reconnects >= 1
    assert len(primary.sessions) == 1 and session.said_goodbye
    stamps = [each.timestamp for each in pictures(session)]
    assert stamps == sorted(stamps)
    assert largest_gap_ms(pictures(session)) < 5_000
    seen = ["white" if each > 200 else "dark" for each in brightness(session.messages)]
    changes = [each for at, each in enumerate(seen) if at == 0 or seen[at - 1] != each]
    assert changes == ["dark", "white", "dark", "white"]
    loud = loudness(session.messages)
    assert max(loud) > 1_000 and loud[0] < 100, "the tone is the source's, and the slate is silent"


async def test_the_source_of_sound_dies_and_comes_back_and_the_pictures_go_on(tmp_path: Path) -> None:
    ours, theirs = _srt(free_udp_port())
    port = free_udp_port()
    primary = FakeDestination()
    settings = {"SRT_URL": ours, "AUDIO_SOURCE": f"udp://127.0.0.1:{port}?timeout=1000000"}

    def tone() -> subprocess.Popen[bytes]:
        words = "ffmpeg -v error -nostdin -re -f lavfi -i sine=frequency=660:sample_rate=48000 -c:a aac -f mpegts"
        return subprocess.Popen([*words.split(), f"udp://127.0.0.1:{port}"])

    async with primary.listening(), bridging(settings | to(primary)) as bridge:
        with publisher(theirs, sound=False):
            await until(lambda: bridge.status().state == "live" and bool(primary.sessions))
            session = primary.sessions[0]
            for _ in range(2):
                producer = tone()
                try:
                    await until(lambda: bridge.sound.state == "live")
                    await hears(session, tone=True)
                finally:
                    producer.kill()
                    producer.wait()
                await until(lambda: bridge.status().sound.state != "live")  # it is stalled for a moment, then gone
                await hears(session, tone=False)
    assert len(primary.sessions) == 1
    on_air = pictures(session)[FPS * 2 :]
    assert largest_gap_ms(on_air) <= _FRAME_MS + 1
    assert largest_gap_ms(sounds(session)[100:]) <= 23, "the sound never stops"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize(("state", "mark"), [("live", "clip.flv"), ("slate", "color=")])
async def test_an_encoder_that_is_killed_or_hangs_is_replaced(
    state: str, mark: str, number: signal.Signals, tmp_path: Path
) -> None:
    clip, primary = tmp_path / "clip.flv", FakeDestination()
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=s=320x180:r={FPS}", "-t", "4", "-c:v", "libx264", "-g", str(FPS), clip)
    source = {"SRT_URL": str(clip)} if state == "live" else {}
    async with primary.listening(), bridging(source | to(primary)) as bridge:
        await until(lambda: bridge.status().state == state and bool(primary.sessions))
        await until(lambda: len(pictures(primary.sessions[0])) > FPS)

        def encoders() -> list[int]:
            return [pid for pid, words in children().items() if words.startswith("ffmpeg") and mark in words]

        await until(lambda: len(encoders()) == 1)  # egress makes its slate by ffmpeg too, once
        (hit,) = encoders()
        os.kill(hit, number)
        await until(lambda: hit not in children())
        before = len(pictures(primary.sessions[0]))
        await until(lambda: bridge.status().state == state and len(pictures(primary.sessions[0])) > before + FPS)
    assert len(primary.sessions) == 1
    assert largest_gap_ms(sounds(primary.sessions[0])) < 5_000 and largest_gap_ms(pictures(primary.sessions[0])) < 5_000


async def test_a_wrong_passphrase_is_named() -> None:
    port = free_udp_port()
    async with bridging({"SRT_URL": f"srt://127.0.0.1:{port}?passphrase=not-that-one-1", "SLATE": "off"}) as bridge:
        with publisher(f"srt://127.0.0.1:{port}?mode=listener&passphrase={PASSPHRASE}", sound=False):
            await until(lambda: "passphrase is wrong" in (bridge.status().source.last_error or ""))


async def test_a_source_without_sound_gets_silence() -> None:
    ours, theirs = _srt(free_udp_port())
    primary = FakeDestination()
    async with primary.listening(), bridging({"SRT_URL": ours, "SLATE": "off"} | to(primary)) as bridge:
        with publisher(theirs, sound=False):
            await until(lambda: bool(primary.sessions) and len(sounds(primary.sessions[0])) > 60)
            assert bridge.status().sound.state == "silence"
    assert largest_gap_ms(sounds(primary.sessions[0])) <= 23
    assert max(loudness(primary.sessions[0].messages)) < 10


async def test_new_settings_touch_only_what_they_change(tmp_path: Path) -> None:
    primary, backup = FakeDestination(), FakeDestination()
    async with primary.listening(), backup.listening():
        file = tmp_path / "media.env"
        file.write_text("".join(f"{name}={value}\n" for name, value in to(primary, backup).items()))
        async with bridging({}, file) as bridge:
            await until(lambda: bool(primary.sessions and backup.sessions))
            await bridge.change({"BACKUP_STREAM_KEY": "an0ther"})
            await until(lambda: len(backup.sessions) == 2)
            await bridge.change({"AUDIO_SOURCE": "lavfi:sine=frequency=440", "SLATE_TEXT": "Soon"})
            await until(lambda: bridge.sound.state == "live")
            # silence is coded in some ten bytes a frame; the new encoder takes its time on a busy machine
            await until(lambda: any(len(sound.payload) > 60 for sound in sounds(primary.sessions[0])[-20:]))
            count = len(sounds(primary.sessions[0]))
            await until(lambda: len(sounds(primary.sessions[0])) > count + 60)
    assert len(primary.sessions) == 1 and backup.sessions[1].path == "app/an0ther"
    assert max(loudness(primary.sessions[0].messages)) > 1_000


async def test_the_command_ends_in_time_and_leaves_nothing(tmp_path: Path) -> None:
    ours, theirs = _srt(free_udp_port())
    primary = FakeDestination()
    file = tmp_path / "media.env"
    async with primary.listening():
        settings = SMALL | {"SRT_URL": ours} | to(primary)
        file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        command = [sys.executable, "-m", "babelcast", "bridge", "--env-file", str(file), "--port", "0"]
        process = _started([*command, "--rtmp-port", "0"])
        try:
            with publisher(theirs):
                await until(lambda: bool(primary.sessions) and len(pictures(primary.sessions[0])) > 2 * FPS)
                file.write_text(file.read_text() + "FPS=no\n")
                process.send_signal(signal.SIGHUP)
                count = len(pictures(primary.sessions[0]))
                await until(lambda: len(pictures(primary.sessions[0])) > count + FPS)
                shown = arguments_of_children()
                began = time.monotonic()
                process.send_signal(signal.SIGINT)
                await until(lambda: process.poll() is not None, 10)
                assert time.monotonic() - began < 5
        finally:
            process.kill()
            out, words = process.communicate()
    assert process.returncode == 0 and out.startswith(b"ready: API http://127.0.0.1:")
    assert KEY.encode() not in out + words and PASSPHRASE.encode() not in out + words
    assert f"{file}:{len(settings) + 1}: FPS".encode() in words, "the bad line is named"
    ours_only = "\n".join(line for line in shown.splitlines() if theirs not in line)
    assert KEY not in ours_only and PASSPHRASE not in ours_only
    assert "bridge" not in "\n".join(line for line in arguments_of_children().splitlines() if "ffmpeg" in line)
    assert primary.sessions[0].said_goodbye


async def _on_air(settings: dict[str, str], seconds: float = 2.0) -> tuple[list[int], list[int], str | None]:
    """What a destination got of a source that the bridge calls: brightness, loudness, and the source's last error."""
    primary = FakeDestination()
    async with primary.listening(), bridging(settings | to(primary)) as bridge:
        await until(lambda: bridge.status().state == "live" and bool(primary.sessions), 40)
        session = primary.sessions[0]
        count = len(pictures(session))
        await until(lambda: len(pictures(session)) > count + seconds * FPS)
        error = bridge.status().source.last_error
    return brightness(session.messages), loudness(session.messages), error


@pytest.mark.parametrize("encoder", ["x264", "copy"])
async def test_a_file_is_sent_over_and_over(encoder: str, tmp_path: Path) -> None:
    clip = tmp_path / "white.mp4"
    words = f"-f lavfi -i color=white:s=320x180:r={FPS} -f lavfi -i sine=frequency=440 -t 1.2 -c:v libx264 -pix_fmt"
    words += f" yuv420p -preset ultrafast -g {FPS} -bf 0 -c:a aac -ar 48000 -ac 2"
    ffmpeg(*words.split(), clip)
    seen, heard, error = await _on_air({"SOURCE_URL": str(clip), "VIDEO_ENCODER": encoder}, 3.0)
    assert max(seen) > 200 and max(heard) > 1_000 and error is None


@pytest.mark.mediamtx
@pytest.mark.parametrize("kind", ["rtsp", "rtmp", "srt"])
async def test_a_source_that_is_called_by_every_protocol(kind: Literal["rtsp", "rtmp", "srt"]) -> None:
    binary = mediamtx_binary()
    assert binary
    async with run_mediamtx(Path(binary), Ports(srt=0)) as server:
        words = f"ffmpeg -v error -nostdin -re -f lavfi -i color=white:s=320x180:r={FPS} -f lavfi -i sine=frequency=440"
        words += f" -c:v libx264 -preset ultrafast -pix_fmt yuv420p -bf 0 -g {FPS} -c:a aac -ac 2 -f flv"
        process = _started([*words.split(), server.publish_url("live/cam/in")])
        try:
            seen, heard, _ = await _on_air({"SOURCE_URL": server.read_url("live/cam/in", kind)})
        finally:
            process.kill()
            process.communicate()
    assert max(seen) > 200 and max(heard) > 1_000


async def test_the_programme_is_recorded_in_files_and_the_oldest_go(tmp_path: Path) -> None:
    folder = tmp_path / "100 % ours"
    ours, theirs = _srt(free_udp_port())
    settings = {"SRT_URL": ours, "RECORD": str(folder), "RECORD_MINUTES": "0.02", "RECORD_KEEP_GB": "0.00012"}
    async with bridging(settings) as bridge:
        bridge.recorder._look_s = 0.2
        with publisher(theirs):
            await until(lambda: bridge.status().recording.state == "recording")
            first = sorted(folder.iterdir())[0]
            await until(lambda: not first.exists(), 30)
            status = bridge.status().recording
            assert status.files >= 1 and 0 < status.bytes < 400_000
            await until(lambda: bridge.status().state == "live")
            await until(lambda: len(sorted(folder.iterdir())) > 1)
        await bridge.stop()
        await until(lambda: bridge.status().recording.state == "off")
    for file in sorted(folder.iterdir()):
        ffmpeg("-i", file, "-f", "null", "-")
    assert "ffmpeg" not in arguments_of_children()


async def test_a_folder_that_can_not_be_written_to_is_an_alert_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    primary = FakeDestination()
    async with primary.listening(), bridging({"RECORD": str(tmp_path / "file")} | to(primary)) as bridge:
        await until(lambda: any(each.name == "recording" for each in bridge.status().alerts))
        await until(lambda: bool(primary.sessions) and len(pictures(primary.sessions[0])) > FPS)
        assert "can't write to" in bridge.status().alerts[0].message


async def test_the_slate_may_be_a_picture(tmp_path: Path) -> None:
    image = tmp_path / "white.png"
    ffmpeg("-f", "lavfi", "-i", "color=white:s=64x36", "-frames:v", "1", image)
    primary = FakeDestination()
    async with primary.listening(), bridging({"SLATE_IMAGE": str(image)} | to(primary)) as bridge:
        await until(lambda: bridge.status().state == "slate" and bool(primary.sessions))
        await until(lambda: len(pictures(primary.sessions[0])) > FPS)
    assert max(brightness(primary.sessions[0].messages)) > 200
