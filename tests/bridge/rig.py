"""A bridge, its sources and its destinations, on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from tests.fakes.rtmp_destination import FakeDestination, Session

from babelcast.bridge.service import Bridge, SettingsFile
from babelcast.egress.settings import EgressSettings
from babelcast.media_server.relay.server import Relay
from babelcast.media_server.relay.settings import RelaySettings
from babelcast.rtmp.message import Message, MessageType

KEY = "pr1mary-s3cret"
BACKUP_KEY = "b4ckup-s3cret"
PASSPHRASE = "geheim-0123456"
FPS = 25
FAST = EgressSettings(
    connect_timeout_s=1.0,
    write_timeout_s=1.0,
    slate_hold_s=3_600,
    backoff_first_s=0.1,
    backoff_max_s=0.3,
    source_retry_s=0.05,
)
SMALL = {
    "VIDEO_SIZE": "320x180",
    "FPS": str(FPS),
    "GOP": "13",
    "VIDEO_ENCODER": "x264",
    "VIDEO_PRESET": "ultrafast",
    "VIDEO_BITRATE": "400k",
    "SOURCE_TIMEOUT": "1",
    "BACKOFF_FIRST": "0.2",
    "BACKOFF_MAX": "0.5",
    "SLATE_TEXT": "",
}


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def bridging(environ: dict[str, str], path: Path | None = None) -> AsyncIterator[Bridge]:
    """Started inside the block."""
    async with Relay(RelaySettings(rtmp_port=0, api_port=0, timeout_s=600)) as relay:
        async with Bridge.running(SettingsFile(path, SMALL | environ), relay, FAST) as bridge:
            await bridge.start()
            yield bridge


def to(primary: FakeDestination, backup: FakeDestination | None = None) -> dict[str, str]:
    found = {"PRIMARY_RTMP_URL": primary.url, "PRIMARY_STREAM_KEY": KEY}
    if backup is not None:
        found |= {"BACKUP_RTMP_URL": backup.url, "BACKUP_STREAM_KEY": BACKUP_KEY}
    return found


@contextlib.contextmanager
def publisher(address: str, *, colour: str = "white", sound: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    """A real encoder that sends one colour, and a tone, to ``address`` inside the block; killed at its end."""
    tone = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"] if sound else []
    process = subprocess.Popen(
        [
            *("ffmpeg", "-v", "error", "-nostdin", "-re", "-f", "lavfi", "-i", f"color={colour}:s=320x180:r={FPS}"),
            *(*tone, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", str(FPS)),
            *("-c:a", "aac", "-f", "mpegts", address),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


def pictures(session: Session) -> list[Message]:
    return [each for each in session.messages if each.type == MessageType.VIDEO and each.payload[1] == 1]


def sounds(session: Session) -> list[Message]:
    return [each for each in session.messages if each.type == MessageType.AUDIO and each.payload[1] == 1]


def largest_gap_ms(messages: list[Message]) -> int:
    stamps = [each.timestamp for each in messages]
    return max(b - a for a, b in itertools.pairwise(stamps))


def flv(messages: list[Message]) -> bytes:
    data = bytearray(b"FLV\x01\x05\0\0\0\x09\0\0\0\0")
    for each in messages:
        if each.type not in (MessageType.AUDIO, MessageType.VIDEO):
            continue
        stamp = each.timestamp
        head = bytes((each.type,)) + len(each.payload).to_bytes(3, "big")
        head += (stamp & 0xFFFFFF).to_bytes(3, "big") + bytes((stamp >> 24 & 0xFF,)) + b"\0\0\0"
        data += head + each.payload + (11 + len(each.payload)).to_bytes(4, "big")
    return bytes(data)


def brightness(messages: list[Message]) -> list[int]:
    """Of each picture, after decoding: one pixel of luma."""
    command = ["ffmpeg", "-v", "error", "-f", "flv", "-i", "pipe:0", "-map", "0:v", "-vf", "scale=1:1,format=gray"]
    command += ["-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"]
    return list(subprocess.run(command, input=flv(messages), capture_output=True, check=True).stdout)


def loudness(messages: list[Message]) -> list[int]:
    """Of each tenth of a second, after decoding: the largest sample of 16 bits."""
    command = ["ffmpeg", "-v", "error", "-f", "flv", "-i", "pipe:0", "-map", "0:a", "-ac", "1", "-ar", "8000"]
    data = subprocess.run(
        [*command, "-f", "s16le", "pipe:1"], input=flv(messages), capture_output=True, check=True
    ).stdout
    samples = memoryview(data[: len(data) // 1600 * 1600]).cast("h")
    return [max(abs(each) for each in samples[at : at + 800]) for at in range(0, len(samples), 800)]


async def hears(session: Session, *, tone: bool) -> None:
    """Half a second of the tone, or of silence; how often there was a hole in it is the busy machine's business."""
    async with asyncio.timeout(20):
        while True:
            latest = (await asyncio.to_thread(loudness, list(session.messages)))[-5:]
            if latest and all((each > 1_000) == tone for each in latest):
                return
            await asyncio.sleep(0.2)


def arguments_of_children() -> str:
    """Of every process below this one."""
    return "\n".join(children().values())


def children() -> dict[int, str]:
    """The command line of every process below this one."""
    found, parents = {}, {os.getpid()}
    table = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = (folder / "stat").read_text()
            table[int(folder.name)] = int(stat[stat.rindex(")") + 2 :].split()[1])
    grown = True
    while grown:
        new = {pid for pid, parent in table.items() if parent in parents} - parents
        grown = bool(new)
        parents |= new
    for pid in parents - {os.getpid()}:
        with contextlib.suppress(OSError):
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return found
