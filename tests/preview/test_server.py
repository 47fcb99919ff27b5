"""WHEP as a client that is no browser sees it: what is refused, what is bounded, what is given back."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import aioice.ice
import pytest
from aiortc import RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from pydantic import SecretStr

from babelcast.errors import LaunchError, PreviewError
from babelcast.media_server.relay.client import RelayClient
from babelcast.orchestrator import preview as paths_module
from babelcast.orchestrator.preview import ServerPaths
from babelcast.preview.process import PreviewProcess
from babelcast.preview.server import Previews
from babelcast.preview.settings import PreviewSettings
from babelcast.preview.wire import Offer, Watch
from tests.e2e.programs import until
from tests.fakes.fake_media_server import FakeMediaServer
from tests.preview.rig import HERE, IN, publishing, relay_site, relaying

pytestmark = pytest.mark.integration

Direction = Literal["recvonly", "sendonly", "sendrecv"]


@contextlib.asynccontextmanager
async def _client(direction: Direction = "recvonly", codec: str = "H264") -> AsyncIterator[RTCPeerConnection]:
    """With its offer made."""
    peer = RTCPeerConnection()
    try:
        pictures = peer.addTransceiver("video", direction=direction)
        known = RTCRtpReceiver.getCapabilities("video")
        assert known is not None
        pictures.setCodecPreferences([each for each in known.codecs if each.mimeType == f"video/{codec}"])
        peer.addTransceiver("audio", direction=direction)
        await peer.setLocalDescription(await peer.createOffer())
        yield peer
    finally:
        await peer.close()


async def _sdp(direction: Direction = "recvonly", codec: str = "H264") -> str:
    async with _client(direction, codec) as peer:
        return str(peer.localDescription.sdp)


async def test_what_is_no_offer_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    good = await _sdp()
    async with relay_site(tmp_path) as (relay, site), publishing(f"{relay.rtmp_url}/{IN}"):
        for sdp, expected in (
            ("", 400),
            ("hello", 400),
            ("v=0\r\n", 400),
            (good[: len(good) // 3], 400),
            (good.replace("a=ice-ufrag", "a=x"), 400),
            (good.replace("a=fingerprint", "a=x"), 400),
            (await _sdp("sendonly"), 400),
            (await _sdp(codec="VP8"), 406),
            ("v=0\r\n" + "a=x\r\n" * 20_000, 413),
        ):
            status, location, body = await site.offer(sdp)
            assert (status, location) == (expected, ""), (sdp[:80], body)
        status, _, body = await site.offer(good, headers={"Content-Type": "text/plain"})
        assert (status, "application/sdp" in body) == (415, True)
        await until(lambda: _viewers(site, 0), "no viewer")


async def test_paths_that_are_not_there(tmp_path: Path) -> None:
    good = await _sdp()
    async with relay_site(tmp_path) as (_, site):
        assert (await site.view())["state"] == "offline"
        assert (await site.offer(good))[0] == 404
        for path in ("nonsense", "live/show", "live/Show/in", "live/show/out/..%2Fx", "bridge", "live/show/in/whep"):
            assert (await site.offer(good, path))[0] == 404, path
        assert site.process.pid is None, "nothing was started for it"


async def test_sessions_end_when_they_are_told_to(tmp_path: Path) -> None:
    async with relay_site(tmp_path) as (relay, site), publishing(f"{relay.rtmp_url}/{IN}"), _client() as peer:
        status, location, answer = await site.offer(peer.localDescription.sdp)
        assert (status, location.startswith(f"/api/v1/preview/{IN}/whep/")) == (201, True)
        await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await until(lambda: peer.connectionState == "connected", "a connection")
        assert await _viewers(site, 1)
        async with site.http.patch(location, data="a=candidate:x") as patched:
            assert (patched.status, patched.headers["Allow"]) == (405, "DELETE")
        for expected in (204, 404):
            async with site.http.delete(location) as deleted:
                assert deleted.status == expected
            await until(lambda: _viewers(site, 0), "no viewer")


async def test_one_more_than_may_is_told_to_come_back(tmp_path: Path) -> None:
    settings = HERE.model_copy(update={"viewers": 2})
    async with relay_site(tmp_path, settings) as (relay, site), publishing(f"{relay.rtmp_url}/{IN}"):
        answers = await asyncio.gather(*[site.offer(await _sdp()) for _ in range(4)])
        assert sorted(status for status, _, _ in answers) == [201, 201, 503, 503]


async def test_a_viewer_that_vanishes_in_the_handshake_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    async with relaying() as relay, publishing(f"{relay.rtmp_url}/{IN}"):
        url = f"{relay.rtmp_url}/{IN}"
        async with Previews(PreviewSettings(), grace_s=0.5, handshake_s=2.0).running() as previews:
            offers = [await _sdp() for _ in range(5)]
            before = len(os.listdir("/proc/self/fd"))
            for sdp in offers:
                await previews.offer(Offer(path=IN, url=url, sdp=sdp))
            assert previews.status().viewers == 5
            await until(lambda: not previews.status().viewers, "every viewer given up")
            await until(lambda: not previews.status().channels, "nothing is played any more")
            await until(lambda: len(os.listdir("/proc/self/fd")) <= before, "every socket closed")


async def test_who_asks_and_hangs_up_leaves_no_viewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])
    async with relaying() as relay, publishing(f"{relay.rtmp_url}/{IN}"):
        async with Previews(PreviewSettings(), grace_s=0.1).running() as previews:
            asking = asyncio.create_task(previews.offer(Offer(path=IN, url=f"{relay.rtmp_url}/{IN}", sdp=await _sdp())))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await until(lambda: not previews.status().viewers, "no viewer")


async def test_a_source_is_played_only_while_it_is_watched() -> None:
    async with relaying() as relay, publishing(f"{relay.rtmp_url}/{IN}"):
        url = f"{relay.rtmp_url}/{IN}"
        async with Previews(PreviewSettings(), grace_s=1.0).running() as previews:
            assert previews.watch(Watch(path=IN, url=url)).state == "connecting"
            await until(lambda: previews.watch(Watch(path=IN, url=url)).state == "live", "it is played")
            await until(lambda: not previews.status().channels, "it is left alone after the grace")


async def test_paths_are_kept_ready(tmp_path: Path) -> None:
    async with (
        relay_site(tmp_path) as (relay, site),
        contextlib.aclosing(RelayClient(relay.api_url, relay.rtmp_url)) as server,
    ):

        async def live() -> bool:
            return [each.state for each in (await site.process.status()).channels] == ["live"]

        async with publishing(f"{relay.rtmp_url}/{IN}"), ServerPaths(server).kept_ready(site.process, playing=True):
            await until(live, "played, although nobody has looked")


async def test_the_process_is_there_before_the_first_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths_module, "_READY_S", 0.1)
    async with (
        relay_site(tmp_path) as (relay, site),
        contextlib.aclosing(RelayClient(relay.api_url, relay.rtmp_url)) as server,
        ServerPaths(server).kept_ready(site.process, playing=False),
    ):
        await until(lambda: site.process.pid, "a process, although nothing is on air")
        assert (await site.process.status()).channels == (), "and it plays nothing"


async def test_the_process_waits_for_a_worker_that_has_just_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths_module, "_AFTER_A_START_S", 1.0)
    async with (
        relay_site(tmp_path) as (relay, site),
        contextlib.aclosing(RelayClient(relay.api_url, relay.rtmp_url)) as server,
        publishing(f"{relay.rtmp_url}/{IN}"),
    ):
        began = time.monotonic()
        async with ServerPaths(server).kept_ready(site.process, playing=False):
            await until(lambda: site.process.pid, "a process, although nobody has looked")
            assert time.monotonic() - began > 0.99, "the worker needs the processor more"


async def test_the_page_has_its_path_played_before_it_asks_where_it_may_be_watched(tmp_path: Path) -> None:
    for token, played in ((None, [IN]), ("s3cret-token", [])):
        async with relay_site(tmp_path, token=token) as (relay, site), publishing(f"{relay.rtmp_url}/{IN}"):
            async with site.http.get(f"/preview/{IN}") as answer:
                assert answer.status == 200
            await until(lambda: site.process.pid, "a process")
            if played:
                await until(lambda: _channels(site, 1), "it is played")
            else:
                await asyncio.sleep(0.5)
            assert [each.path for each in (await site.process.status()).channels] == played


async def test_why_a_source_can_not_be_played_is_said() -> None:
    async with Previews(PreviewSettings(), grace_s=0.1).running() as previews:
        watch = Watch(path=IN, url="rtmp://127.0.0.1:1/live/show/in")

        def said() -> bool:
            return "can't connect to 127.0.0.1:1" in (previews.watch(watch).error or "")

        await until(said, "why")


async def test_a_source_that_ends_takes_its_viewers_along(tmp_path: Path) -> None:
    async with relay_site(tmp_path) as (relay, site), _client() as peer:
        async with publishing(f"{relay.rtmp_url}/{IN}"):
            _, _, answer = await site.offer(peer.localDescription.sdp)
            await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            await until(lambda: peer.connectionState == "connected", "a connection")
        await until(lambda: peer.connectionState == "closed", "the viewer is let go")
        assert await _viewers(site, 0)


async def test_a_source_that_ends_in_a_viewers_handshake_takes_it_along_in_the_open(tmp_path: Path) -> None:
    """A browser whose peer vanishes before they are connected would wait for long."""
    async with relay_site(tmp_path) as (relay, site), _client() as peer:
        async with publishing(f"{relay.rtmp_url}/{IN}"):
            _, _, answer = await site.offer(peer.localDescription.sdp)
        await until(lambda: _channels(site, 0), "the source is over")
        states: list[str] = []
        peer.on("connectionstatechange", lambda: states.append(peer.connectionState))
        await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await until(lambda: peer.connectionState == "closed", "the viewer is let go")
        assert states == ["connecting", "connected", "closed"]
        await until(lambda: _viewers(site, 0), "no viewer")


async def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as if another one ran in this folder
        async with PreviewProcess(tmp_path, PreviewSettings()).running() as process:
            found = []
            for _ in range(3):
                with pytest.raises(LaunchError, match="another preview process"):
                    await process.watch(IN, "rtmp://127.0.0.1:1/live/show/in")
                found.append(sorted(os.listdir("/proc/self/fd")))
            assert found[1] == found[2] and process.pid is None


async def test_who_may_watch(tmp_path: Path) -> None:
    settings = HERE.model_copy(update={"token": SecretStr("view-only-token")})
    async with relay_site(tmp_path, settings, token="all-of-it-token") as (relay, site):
        async with publishing(f"{relay.rtmp_url}/{IN}"):
            for token, expected in (("all-of-it-token", 201), ("view-only-token", 201), ("wrong", 401), (None, 401)):
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                assert (await site.offer(await _sdp(), headers=headers))[0] == expected, token
            headers = {"Authorization": "Bearer view-only-token"}
            async with site.http.get("/openapi.json") as answer:
                assert answer.status == 200
            async with site.http.get("/api/v1/streams", headers=headers) as answer:
                assert answer.status == 401, "it opens previews alone"
            async with site.http.get(f"/preview/{IN}") as answer:
                assert answer.status == 200, "the page holds nothing before it asks"
            headers["Origin"] = "https://elsewhere.example"
            assert (await site.offer(await _sdp(), headers=headers))[0] == 403


async def test_the_page_and_its_rules(tmp_path: Path) -> None:
    settings = HERE.model_copy(update={"frame_ancestors": ("'self'", "https://dashboard.example")})
    async with relay_site(tmp_path, settings) as (_, site):
        async with site.http.get(f"/preview/{IN}") as answer:
            policy, page = answer.headers["Content-Security-Policy"], await answer.text()
        assert "default-src 'none'" in policy
        assert policy.endswith("frame-ancestors 'self' https://dashboard.example")
        for asset in re.findall(r'"(/preview/assets/[^"]+)"', page):
            async with site.http.get(asset) as answer:
                assert (answer.status, answer.headers["X-Content-Type-Options"]) == (200, "nosniff")
        async with site.http.get("/preview/assets/../../x") as answer:
            assert answer.status == 404


async def test_addresses_and_ports_as_they_are_set(tmp_path: Path) -> None:
    settings = HERE.model_copy(update={"udp_ports": "41200-41299", "announce": ("198.51.100.4",)})
    async with relay_site(tmp_path, settings) as (relay, site), publishing(f"{relay.rtmp_url}/{IN}"):
        _, _, answer = await site.offer(await _sdp())
        found = re.findall(r"a=candidate:\S+ \d udp \d+ (\S+) (\d+) typ host", answer)
        assert found
        assert all(host == "198.51.100.4" and 41_200 <= int(port) <= 41_299 for host, port in found)


async def test_ice_servers_are_told_to_those_who_may_watch(tmp_path: Path) -> None:
    ice: Any = [{"urls": "turn:127.0.0.1:9", "username": "u", "credential": "turn-password"}]
    settings = PreviewSettings(host="127.0.0.1", ice_servers=ice)
    async with relay_site(tmp_path, settings, token="t0ken-of-all") as (_, site):
        headers = {"Authorization": "Bearer t0ken-of-all"}
        view = await site.view(headers=headers)
        assert view["ice_servers"] == [{"urls": ["turn:127.0.0.1:9"], "username": "u", "credential": "turn-password"}]
        assert "turn-password" not in str(await site.view())


async def test_an_offer_that_no_media_server_can_answer_is_an_error_of_ours() -> None:
    async with Previews(PreviewSettings()).running() as previews:
        with pytest.raises(PreviewError) as error:
            await previews.offer(Offer(path=IN, url="rtmp://127.0.0.1:1/live/show/in", sdp="nonsense"))
        assert error.value.status == 400


async def _channels(site: Any, count: int) -> bool:
    return len((await site.process.status()).channels) == count


async def _viewers(site: Any, count: int) -> bool:
    return bool((await site.process.status()).viewers == count)


async def test_a_disk_that_takes_nothing_is_said_and_previews_are_kept_ready_once_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths_module, "_READY_S", 0.0)
    (tmp_path / "file").touch()
    server = FakeMediaServer()
    server.publish("show")
    async with PreviewProcess(tmp_path / "file" / "preview", PreviewSettings()).running() as process:
        with pytest.raises(LaunchError, match="not a directory"):
            await process.watch(IN, "rtmp://127.0.0.1:1/live/show/in")
        async with ServerPaths(server).kept_ready(process, playing=True), asyncio.timeout(5):
            while server.listed < 5:
                await asyncio.sleep(0.01)
