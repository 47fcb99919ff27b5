"""What comes in as sound, in any format, comes out of the ingest as 48 kHz stereo: same tone, same level, in place."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from babelcast.gst.ingest import IngestPipeline, Tracks
from babelcast.rtmp.message import Message, MessageType
from tests.gst import heaac
from tests.worker.media import flv_tags, write_flv

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

RATE = 48_000
LENGTH_S = 2.2
TONE_HZ, TONE_LEVEL = 1_000, 0.25
TONE = f"{TONE_LEVEL}*sin(2*PI*{TONE_HZ}*t)*between(t\\,1.0\\,1.8)"
VIDEO = ["-f", "lavfi", "-i", "color=c=gray:s=64x64:r=25", "-c:v", "libx264", "-preset", "ultrafast", "-g", "25"]
EARLY_MS, LATE_MS = 15.0, 45.0
"""Sound against pictures, ATSC IS-191."""

Samples = np.ndarray[tuple[int, int], np.dtype[np.float32]]


@dataclass(frozen=True)
class Heard:
    """``samples``: shape (n, 2), from the first picture's time on."""

    samples: Samples
    pictures: int
    tracks: Tracks
    error: str | None

    def onset_ms(self) -> float:
        """When the tone begins, against when it was meant to."""
        side = np.abs(self.samples[:, 0])
        return float(np.argmax(side > TONE_LEVEL / 3)) / RATE * 1000 - 1000

    def level(self, hz: float, channel: int, start_s: float = 1.2, end_s: float = 1.7) -> float:
        """Amplitude of a sinusoid, by its product with one under a Hann window."""
        part = self.samples[round(start_s * RATE) : round(end_s * RATE), channel]
        t = np.arange(len(part)) / RATE
        window = np.hanning(len(part))
        return float(2 * abs(np.sum(part * window * np.exp(-2j * np.pi * hz * t))) / window.sum())

    def loudest_hz(self) -> float:
        part = self.samples[round(1.2 * RATE) : round(1.7 * RATE), 0]
        return float(np.argmax(np.abs(np.fft.rfft(part * np.hanning(len(part))))) / len(part) * RATE)


def make(path: Path, channels: list[str], rate: int, layout: str, codec: str, video: bool = True) -> Path:
    source = f"aevalsrc={'|'.join(channels)}:s={rate}:c={layout}"
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, *(VIDEO if video else [])]
    subprocess.run([*command, "-t", str(LENGTH_S), *codec.split(), str(path)], check=True, timeout=60)
    return path


def add_pictures(stream: Path, clip: Path) -> None:
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(stream), *VIDEO, "-t", str(LENGTH_S), "-c:a", "copy", str(clip)]
    subprocess.run(command, check=True, timeout=60)


async def listen(clip: Path) -> Heard:
    """Read the whole file."""
    pipeline = IngestPipeline(str(clip))
    await pipeline.start()
    packets, pictures, first = [], 0, None
    try:
        async with asyncio.timeout(20):
            while True:
                video = pipeline.pull_video()
                audio = [packet for packet in pipeline.pull_audio() if packet.pts_ns is not None]
                if video and first is None:
                    first = video[0].pts_ns
                pictures += len(video)
                packets += audio
                end = pipeline.poll_end() if not video and not audio else None
                if end is not None:
                    break
                await asyncio.sleep(0.005)
        out = np.zeros((round((LENGTH_S + 3) * RATE), 2), np.float32)
        for packet in packets:
            pcm = np.frombuffer(packet.data, "<i2").reshape(-1, 2).astype(np.float32) / 32768
            at = round(((packet.pts_ns or 0) - (first or 0)) * RATE / 1e9)
            pcm = pcm[max(0, -at) :]
            at = max(0, at)
            out[at : at + len(pcm)] = pcm[: len(out) - at]
        return Heard(out, pictures, pipeline.tracks, end.error)
    finally:
        await pipeline.stop()


AAC, MP3, OPUS = "-c:a aac -b:a 128k", "-c:a libmp3lame -b:a 128k", "-c:a libopus -b:a 96k"


@pytest.mark.parametrize(
    ("codec", "rate", "layout", "container"),
    [
        (AAC, 22_050, "mono", "flv"),
        (AAC, 44_100, "stereo", "flv"),
        (AAC, 48_000, "mono", "ts"),
        (AAC, 32_000, "stereo", "mp4"),
        (AAC, 96_000, "stereo", "mkv"),
        (MP3, 22_050, "mono", "flv"),
        (MP3, 44_100, "stereo", "ts"),
        (MP3, 32_000, "stereo", "mkv"),
        (OPUS, 48_000, "mono", "ts"),
        (OPUS, 48_000, "stereo", "mp4"),
    ],
)
async def test_a_tone_comes_through_in_place(
    codec: str, rate: int, layout: str, container: str, tmp_path: Path
) -> None:
    channels = [TONE] * (1 if layout == "mono" else 2)
    heard = await listen(make(tmp_path / f"clip.{container}", channels, rate, layout, codec))
    assert heard.error is None and heard.pictures == round(LENGTH_S * 25)
    assert heard.loudest_hz() == pytest.approx(TONE_HZ, abs=4)
    for side in (0, 1):
        assert heard.level(TONE_HZ, side) == pytest.approx(TONE_LEVEL, rel=0.06)
    assert -EARLY_MS < heard.onset_ms() < LATE_MS


@pytest.mark.parametrize(
    ("codec", "container"), [("-c:a aac -b:a 384k", "flv"), (OPUS, "mkv"), ("-c:a ac3 -b:a 384k", "ts")]
)
async def test_surround_is_mixed_down_by_itu_r_bs_775(codec: str, container: str, tmp_path: Path) -> None:
    hertz = {"FL": 500, "FR": 700, "FC": 1_000, "LFE": 60, "BL": 1_500, "BR": 2_000}
    channels = [f"0.1*sin(2*PI*{hz}*t)" for hz in hertz.values()]
    heard = await listen(make(tmp_path / f"clip.{container}", channels, RATE, "5.1", codec))
    assert heard.error is None
    three_db = 0.1 * 0.7071
    expected = {"FL": (0.1, 0), "FR": (0, 0.1), "FC": (three_db, three_db), "LFE": (0, 0)}
    expected |= {"BL": (three_db, 0), "BR": (0, three_db)}
    for name, hz in hertz.items():
        for side in (0, 1):
            assert heard.level(hz, side) == pytest.approx(expected[name][side], abs=0.006), (name, side)


async def test_a_loud_mix_down_does_not_clip(tmp_path: Path) -> None:
    channels = [f"0.7*sin(2*PI*{TONE_HZ}*t)"] * 6
    heard = await listen(make(tmp_path / "clip.flv", channels, RATE, "5.1", "-c:a aac -b:a 384k"))
    middle = np.abs(heard.samples[RATE:-RATE])
    assert 0.9 < middle.max() < 1.0
    assert np.mean(middle[: RATE // 2] > 0.9999) < 0.001


@pytest.mark.parametrize(
    ("name", "channels", "container", "explicit"),
    [
        ("he", 2, "flv", None),
        ("he", 1, "flv", "sbr"),
        ("he", 2, "flv", "sync"),
        ("he", 2, "ts", None),
        ("he", 2, "mp4", None),
        ("he-v2", 1, "flv", None),
        ("he-v2", 1, "flv", "ps"),
        ("he-v2", 1, "ts", None),
    ],
)
async def test_he_aac(name: str, channels: int, container: str, explicit: str | None, tmp_path: Path) -> None:
    """Its upper band, made by SBR alone, must be heard, and both sides of parametric stereo."""
    layout = "mono" if channels == 1 else "stereo"
    core = make(tmp_path / "core.aac", [TONE] * channels, 24_000, layout, "-c:a aac -b:a 64k -f adts", video=False)
    stream = tmp_path / "he.aac"
    stream.write_bytes(heaac.with_sbr(core.read_bytes(), ps=name == "he-v2"))
    clip = tmp_path / f"clip.{container}"
    add_pictures(stream, clip)
    if explicit:
        signal_explicitly(clip, heaac.asc(24_000, channels, explicit=explicit))
    heard = await listen(clip)
    assert heard.error is None
    assert heard.loudest_hz() == pytest.approx(TONE_HZ, abs=4)
    tone = [heard.level(TONE_HZ, side) for side in (0, 1)]
    sine = [heard.level((heaac.SINE_BAND + 0.5) * 375, side) for side in (0, 1)]
    assert min(sine) > 0.005
    difference_db = 20 * np.log10(tone[0] / tone[1])
    assert difference_db == pytest.approx(heaac.PS_DB if name == "he-v2" else 0, abs=0.5)
    assert np.sqrt((tone[0] ** 2 + tone[1] ** 2) / 2) == pytest.approx(TONE_LEVEL, rel=0.15)
    # ADTS has no place for the encoder's delay, so what copied it could not take it out
    assert -EARLY_MS < heard.onset_ms() - 1024 / 24 < LATE_MS


GARBAGE = b"\xff\xff\xff\xff"
NO_CHANNELS = bytes([0b00010_001, 0b1_0000_000])  # AAC-LC, 48 kHz, and the channels in an element that never comes


@pytest.mark.parametrize("config", [GARBAGE, NO_CHANNELS])
async def test_sound_that_cannot_be_decoded_leaves_the_pictures_alone(config: bytes, tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.flv", [TONE] * 2, RATE, "stereo", AAC)
    signal_explicitly(clip, config)
    heard = await listen(clip)
    assert heard.error is None
    assert heard.pictures == round(LENGTH_S * 25)
    assert not heard.samples.any()
    if config == GARBAGE:  # the other one brings no sound at all, which the session tells after 3 s
        assert "can't be decoded: silence is sent" in str(heard.tracks.unsupported)


CUT_MS = 300
"""Early enough: a gap in the sound is told from jitter after 400 ms."""


@pytest.mark.parametrize(
    ("codec", "rate", "layout"), [(AAC, 22_050, "mono"), (AAC, 44_100, "stereo"), ("-c:a aac -b:a 384k", 48_000, "5.1")]
)
async def test_the_format_changes_within_a_connection(codec: str, rate: int, layout: str, tmp_path: Path) -> None:
    """48 kHz stereo for 0.3 s, then something else, in which the tone lies; garbage between the two."""
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    before = flv_tags(make(tmp_path / "before.flv", [TONE] * 2, RATE, "stereo", AAC))
    after = flv_tags(
        make(tmp_path / "after.flv", [TONE if layout != "5.1" else f"0.41*{TONE}"] * channels, rate, layout, codec)
    )
    tags = [tag for tag in before if tag.timestamp < CUT_MS or tag.type == 9]
    new_config = next(tag for tag in after if is_config(tag))
    tags += [new_config._replace(payload=new_config.payload[:2] + GARBAGE, timestamp=CUT_MS)]
    tags += [tag for tag in before if tag.type == 8 and CUT_MS < tag.timestamp < CUT_MS + 100]
    tags += [new_config._replace(timestamp=CUT_MS + 100)]
    tags += [tag for tag in after if tag.type == 8 and tag.timestamp > CUT_MS + 100]
    clip = tmp_path / "clip.flv"
    write_flv(clip, sorted(tags, key=lambda tag: tag.timestamp))
    heard = await listen(clip)
    assert heard.error is None
    assert heard.pictures == round(LENGTH_S * 25)
    for side in (0, 1):
        assert heard.level(TONE_HZ, side) == pytest.approx(TONE_LEVEL, rel=0.08)
    assert -EARLY_MS < heard.onset_ms() < LATE_MS


def is_config(tag: Message) -> bool:
    """Whether an FLV tag holds an AudioSpecificConfig."""
    return tag.type == MessageType.AUDIO and tag.payload[0] >> 4 == 10 and tag.payload[1] == 0


def signal_explicitly(clip: Path, config: bytes) -> None:
    """Put another AudioSpecificConfig in an FLV file."""
    write_flv(
        clip, [tag._replace(payload=tag.payload[:2] + config) if is_config(tag) else tag for tag in flv_tags(clip)]
    )
