"""MediaMTX as a child of ours, with our configuration, against the real binary."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
import yaml

from babelcast.errors import MediaServerError
from babelcast.media_server import mediamtx
from babelcast.media_server.mediamtx import MediaMtx, Ports, run_mediamtx
from tests.conftest import mediamtx_binary
from tests.fakes.elsewhere import from_elsewhere

REPOSITORY = Path(__file__).parents[2]
PUBLISH = "-v error -re -f lavfi -i testsrc2=s=160x120:r=25 -t 10 -c:v libx264 -preset ultrafast -g 10 -f flv"
CONFIG = Path(mediamtx.__file__).with_name("mediamtx.yml")


def binary() -> Path:
    found = mediamtx_binary()
    assert found is not None
    return Path(found)


def fake_binary(folder: Path, script: str) -> Path:
    path = folder / "mediamtx"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.unit
def test_the_deployed_configuration_is_the_one_that_we_run() -> None:
    assert (REPOSITORY / "deploy" / "mediamtx.yml").read_text() == CONFIG.read_text()


@pytest.mark.unit
def test_path_patterns_take_our_names_and_no_others() -> None:
    patterns = [re.compile(name.removeprefix("~")) for name in yaml.safe_load(CONFIG.read_text())["paths"]]

    def allowed(name: str) -> bool:
        return any(pattern.search(name) for pattern in patterns)

    for name in ("live/a/in", "live/my-show_2/in", "live/a/out", "live/a/out/pt-BR", f"live/{'a' * 63}/in"):
        assert allowed(name), name
    for name in (
        "live/-a/in",
        "live/_a/in",
        "live/A/in",
        "live//in",
        f"live/{'a' * 64}/in",
        "live/a/in/b",
        "live/a/out/",
        "live/a/out/e s",
        "live/$(id)/in",
        'live/a"/in',
        "xlive/a/in",
        "live/a",
    ):
        assert not allowed(name), name


@pytest.mark.unit
def test_urls_and_protocols_that_are_off() -> None:
    server = MediaMtx(Ports(rtmp=1935, rtsp=None, srt=8890, api=9997), host="::1")
    assert server.publish_url("live/a/out") == "rtmp://[::1]:1935/live/a/out"
    assert server.read_url("live/a/in") == "rtmp://[::1]:1935/live/a/in"
    assert server.read_url("live/a/in", "srt") == "srt://[::1]:8890?streamid=read:live/a/in"
    with pytest.raises(MediaServerError, match="RTSP switched off"):
        server.read_url("live/a/in", "rtsp")


@pytest.mark.integration
@pytest.mark.mediamtx
async def test_starts_serves_and_ends_without_a_trace() -> None:
    everything = Ports(rtmp=0, rtsp=0, srt=0, hls=0, webrtc=0, api=0, metrics=0)
    async with run_mediamtx(binary(), everything) as server:
        assert await server.list_paths() == []
        assert await server.get_path("live/none/in") is None
        for port in (server.ports.rtmp, server.ports.rtsp, server.ports.hls, server.ports.webrtc):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
        attached = await MediaMtx.attach(server.api_url)
        assert attached.ports == server.ports
        assert attached.read_url("live/a/in", "rtsp") == server.read_url("live/a/in", "rtsp")
    with pytest.raises(MediaServerError):
        await attached.list_paths()
    await attached.aclose()


@pytest.mark.integration
@pytest.mark.mediamtx
async def test_api_and_metrics_are_for_this_machine_alone() -> None:
    """127.0.0.2 stands for another machine: loopback too, but not one of the addresses that are let in."""
    async with run_mediamtx(binary(), Ports(rtsp=None, metrics=0)) as server:
        local = aiohttp.TCPConnector(local_addr=("127.0.0.1", 0))
        foreign = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        metrics = f"http://127.0.0.1:{server.ports.metrics}/metrics"
        async with aiohttp.ClientSession(connector=local) as near, aiohttp.ClientSession(connector=foreign) as far:
            async with near.get(metrics) as response:
                assert response.status == 200
            async with far.get(metrics) as response:
                assert response.status == 401
            async with far.get(f"{server.api_url}/v3/paths/list") as response:
                assert response.status == 401


@pytest.mark.integration
@pytest.mark.mediamtx
@pytest.mark.parametrize(
    ("path", "far", "allowed"),
    [
        ("live/a/in", True, True),
        ("live/a/out", True, False),
        ("live/a/out", False, True),
        ("live/a/out/es", True, False),
    ],
)
async def test_only_this_machine_publishes_a_dubbed_programme(path: str, far: bool, allowed: bool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(run_mediamtx(binary(), Ports(rtsp=None)))
        assert server.ports.rtmp is not None
        port = await stack.enter_async_context(from_elsewhere(server.ports.rtmp)) if far else server.ports.rtmp
        url = f"rtmp://127.0.0.1:{port}/{path}"
        publisher = await asyncio.create_subprocess_exec("ffmpeg", *PUBLISH.split(), url, stderr=subprocess.DEVNULL)
        try:
            if allowed:
                async with asyncio.timeout(15):
                    while not await server.list_paths():
                        await asyncio.sleep(0.05)
            else:
                assert await asyncio.wait_for(publisher.wait(), 15) != 0
                assert await server.list_paths() == []
        finally:
            with contextlib.suppress(ProcessLookupError):
                publisher.kill()
            await publisher.wait()


@pytest.mark.integration
@pytest.mark.mediamtx
async def test_a_taken_port_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(MediaServerError, match=rf"port {port} for RTMP"):
            async with run_mediamtx(binary(), Ports(rtmp=port)):
                pass


@pytest.mark.integration
@pytest.mark.mediamtx
async def test_it_is_restarted_when_it_crashes(free_port: Callable[[], int]) -> None:
    async with run_mediamtx(binary(), Ports(rtsp=None)) as server:
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and _is_child(int(entry))]
        assert len(pids) == 1
        os.kill(pids[0], 9)
        with pytest.raises(MediaServerError):
            while True:
                await server.list_paths()
                await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await server.list_paths() == []
                    break
                except MediaServerError:
                    await asyncio.sleep(0.05)


def _is_child(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[1] == str(os.getpid()) and "(mediamtx)" in stat


@pytest.mark.integration
async def test_a_failed_start_tells_the_last_words(tmp_path: Path) -> None:
    script = 'case "$1" in --version) echo v1.20.1;; *) echo "ERR: listen tcp: bad luck" >&2; exit 1;; esac'
    with pytest.raises(MediaServerError, match="bad luck"):
        async with run_mediamtx(fake_binary(tmp_path, script)):
            pass


@pytest.mark.integration
async def test_one_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mediamtx, "START_TIMEOUT_S", 0.5)
    script = 'case "$1" in --version) echo v1.20.1;; *) exec sleep 60;; esac'
    with pytest.raises(MediaServerError, match="not ready"):
        async with run_mediamtx(fake_binary(tmp_path, script)):
            pass


@pytest.mark.integration
async def test_an_old_one_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    with pytest.raises(MediaServerError, match=r"older than v1\.19\.3 \(babelcast mediamtx install\)") as caught:
        async with run_mediamtx(fake_binary(tmp_path, "echo v1.9.3")):
            pass
    assert not caught.value.retryable


@pytest.mark.integration
async def test_not_a_program(tmp_path: Path) -> None:
    with pytest.raises(MediaServerError, match="can't be run"):
        async with run_mediamtx(tmp_path / "absent"):
            pass
