"""A source that is away is asked for without GStreamer, which would lose descriptors."""

from __future__ import annotations

import os

import pytest

from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.rtmp.client import RtmpClient
from babelcast.rtmp.message import Message, MessageType
from babelcast.worker.knock import why_absent

pytestmark = pytest.mark.integration

_AAC = Message(MessageType.AUDIO, 0, bytes.fromhex("af001190"))


async def test_absent_then_there_and_nothing_is_left_open() -> None:
    async with Relay(RelaySettings(rtmp_port=0, api_port=0)) as relay:
        url = f"{relay.rtmp_url}/live/show/in"
        assert "no stream" in str(await why_absent(url))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(40):
            assert await why_absent(url) is not None
        assert len(os.listdir("/proc/self/fd")) <= before + 4  # the relay's side may be a moment behind
        async with RtmpClient.connect(url) as publisher:
            await publisher.publish()
            await publisher.send(_AAC)
            assert await why_absent(url) is None
    assert "connect" in str(await why_absent("rtmp://127.0.0.1:9/live/show/in"))


async def test_what_is_no_rtmp_is_left_to_gstreamer() -> None:
    assert await why_absent("srt://127.0.0.1:9?streamid=read:live/show/in") is None
    assert await why_absent("rtmp://127.0.0.1:notaport/live") is None
