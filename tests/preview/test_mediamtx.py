"""Beside MediaMTX: its own WHEP where that has pictures and sound, ours elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import av
import numpy as np
import pytest
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from playwright.async_api import Page

from babelcast.media_server.mediamtx import MediaMtx, Ports, run_mediamtx
from babelcast.preview.settings import PreviewSettings
from tests.conftest import mediamtx_binary
from tests.e2e.programs import until
from tests.preview.rig import IN, Site, browsing, publishing, site

pytestmark = [pytest.mark.e2e, pytest.mark.mediamtx, pytest.mark.browser]

_SHOWN = "document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"


class _Pictures(MediaStreamTrack):
    """Grey that grows lighter, 25 a second."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()
        self._count = 0

    async def recv(self) -> av.VideoFrame:
        await asyncio.sleep(max(0.0, self._began + self._count / 25 - time.monotonic()))
        grey = np.full((180, 320, 3), self._count % 256, np.uint8)
        frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
        frame.pts, frame.time_base = self._count * 3600, fractions.Fraction(1, 90_000)
        self._count += 1
        return frame


class _Tone(MediaStreamTrack):
    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()
        self._at = 0

    async def recv(self) -> av.AudioFrame:
        await asyncio.sleep(max(0.0, self._began + self._at / 48_000 - time.monotonic()))
        phase = 2 * np.pi * 440 * np.arange(self._at, self._at + 960) / 48_000
        samples = (8_000 * np.sin(phase)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, self._at, fractions.Fraction(1, 48_000)
        self._at += 960
        return frame


@contextlib.asynccontextmanager
async def _by_webrtc(server: MediaMtx) -> AsyncIterator[None]:
    """A browser's kind of publisher: H.264 and Opus by WHIP."""
    peer = RTCPeerConnection()
    try:
        pictures = peer.addTransceiver(_Pictures(), direction="sendonly")
        known = RTCRtpSender.getCapabilities("video")
        assert known is not None
        pictures.setCodecPreferences([each for each in known.codecs if each.mimeType == "video/H264"])
        peer.addTransceiver(_Tone(), direction="sendonly")
        await peer.setLocalDescription(await peer.createOffer())
        url = f"http://127.0.0.1:{server.ports.webrtc}/{IN}/whip"
        headers = {"Content-Type": "application/sdp"}
        async with aiohttp.ClientSession() as http:
            async with http.post(url, data=peer.localDescription.sdp, headers=headers) as answer:
                assert answer.status == 201, await answer.text()
                await peer.setRemoteDescription(RTCSessionDescription(await answer.text(), "answer"))
        yield
    finally:
        await peer.close()


@contextlib.asynccontextmanager
async def _shown(folder: Path) -> AsyncIterator[tuple[MediaMtx, Site, Page]]:
    binary = mediamtx_binary()
    assert binary is not None
    async with run_mediamtx(Path(binary), Ports(webrtc=0)) as server:
        async with site(server, folder, PreviewSettings(host="127.0.0.1")) as found, browsing() as browser:
            yield server, found, await browser.new_page()


async def _plays(page: Page) -> None:
    await page.wait_for_selector('html[data-state="live"]', timeout=15_000)
    before: int = await page.evaluate(_SHOWN)

    async def advance() -> bool:
        return bool(await page.evaluate(_SHOWN) > before + 25)

    await until(advance, "pictures advance", 8)


async def test_what_comes_by_webrtc_is_shown_by_mediamtx(tmp_path: Path) -> None:
    async with _shown(tmp_path) as (server, found, page), _by_webrtc(server):
        await until(lambda: _online(server), "it is published")
        view = await found.view()
        assert (view["state"], view["via"]) == ("live", "mediamtx")
        await page.goto(found.page(query="?muted=0"))
        await _plays(page)
        assert await page.evaluate("document.documentElement.dataset.sound") == "1"
        path = await server.get_path(IN)
        assert path is not None and path.readers == 1
        assert (await found.process.status()).channels == (), "ours plays nothing"
        await page.goto("about:blank")
        await until(lambda: _readers(server, 0), "the page said goodbye")


async def test_what_comes_by_rtmp_is_shown_by_us_with_its_sound(tmp_path: Path) -> None:
    async with _shown(tmp_path) as (server, found, page), publishing(server.publish_url(IN)):
        await until(lambda: _online(server), "it is published")
        await page.goto(found.page(query="?muted=0"))
        await _plays(page)
        assert await page.evaluate("document.documentElement.dataset.sound") == "1"
        view = await found.view()
        assert (view["via"], view["pictures"]) == ("babelcast", "passthrough")


async def _online(server: MediaMtx) -> bool:
    path = await server.get_path(IN)
    return path is not None and path.online and bool(path.tracks)


async def _readers(server: MediaMtx, count: int) -> bool:
    path = await server.get_path(IN)
    return path is not None and path.readers == count
