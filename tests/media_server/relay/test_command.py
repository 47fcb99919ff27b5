from __future__ import annotations

import asyncio
import re
import signal
import sys
import time

import pytest

from babelcast.rtmp.client import RtmpClient
from tests.media_server.relay.peers import Peer

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
async def test_says_where_it_listens_and_ends_within_two_seconds(ending: signal.Signals) -> None:
    command = [sys.executable, "-m", "babelcast", "relay", "--rtmp-port", "0", "--api-port", "0"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            line = (await process.stdout.readline()).decode()
        found = re.search(r"(rtmp://127\.0\.0\.1:\d+)", line)
        assert found, line
        url = f"{found[1]}/live/show/in"
        async with RtmpClient.connect(url) as publisher, Peer.open(url) as reader:
            await publisher.publish()
            await reader.play()
            started = time.monotonic()
            process.send_signal(ending)
            async with asyncio.timeout(10):
                assert await process.wait() == 0
            assert time.monotonic() - started < 2.0
    finally:
        if process.returncode is None:
            process.kill()
        _, errors = await process.communicate()
    assert b"Traceback" not in errors
