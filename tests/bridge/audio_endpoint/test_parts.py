"""The pure parts: formats, queues, mixer, listeners, the ADTS header."""

from __future__ import annotations

import asyncio
import subprocess

import numpy as np
import pytest

from babelcast.audio.pcm import rms
from babelcast.bridge.audio_endpoint.aac import FRAME_SAMPLES, AacEncoder, adts_header
from babelcast.bridge.audio_endpoint.formats import ACCEPTED, UnsupportedFormat, format_of
from babelcast.bridge.audio_endpoint.listeners import Full, Listeners, Stuck
from babelcast.bridge.audio_endpoint.mixer import BLOCK, Mixer
from babelcast.bridge.audio_endpoint.queue import SpeechQueue
from babelcast.bridge.audio_endpoint.settings import Mix
from babelcast.bridge.audio_endpoint.tone import ingest_url
from babelcast.errors import ConfigError
from babelcast.units import RATE, Pcm

pytestmark = pytest.mark.unit


def _tone(n: int, level: float = 0.5, frequency: float = 440.0) -> Pcm:
    return (level * np.sin(2 * np.pi * frequency * np.arange(n) / RATE)).astype(np.float32)


def _stereo(n: int, level: float = 0.5) -> Pcm:
    return np.repeat(_tone(n, level)[:, None], 2, axis=1)


def _largest_step(samples: Pcm) -> float:
    return float(np.abs(np.diff(samples, axis=0)).max())


@pytest.mark.parametrize(
    ("content_type", "options"),
    [
        ("audio/aac", "-f aac"),
        ("Audio/MPEG; charset=x", "-f mp3"),
        ("audio/ogg;codecs=opus", "-f ogg"),
        ("audio/wav", "-f wav"),
        ("audio/L16;rate=44100;channels=2", "-f s16be -ar 44100 -ac 2"),
        ("audio/L16; rate=16000", "-f s16be -ar 16000 -ac 1"),
        ("audio/pcm", "-f s16le -ar 48000 -ac 2"),
        ('audio/pcm;rate=24000;channels="1";encoding=F32LE', "-f f32le -ar 24000 -ac 1"),
    ],
)
def test_a_content_type_chooses_the_demuxer(content_type: str, options: str) -> None:
    assert " ".join(format_of(content_type).options) == options


_REFUSED = "text/plain audio/L16 audio/L16;rate=48000;channels=9 audio/pcm;rate=-1 audio/pcm;rate=1e4 audio"
_REFUSED += " audio/pcm;encoding=concat application/vnd.apple.mpegurl audio/pcm;rate=99999999999"


@pytest.mark.parametrize("content_type", [None, "", *_REFUSED.split()])
def test_any_other_content_type_is_refused(content_type: str | None) -> None:
    with pytest.raises(UnsupportedFormat):
        format_of(content_type)
    assert len(ACCEPTED) == 6


def test_speech_is_said_in_order_with_a_pause_and_can_be_hushed() -> None:
    queue = SpeechQueue(1.0, 3)
    assert queue.put(_tone(RATE // 2, 0.5)) == 0.0
    assert queue.put(_tone(RATE // 2, 0.25)) == pytest.approx(0.5 + 1 / 6, abs=0.01)
    assert not queue.room(), "more than a second waits"
    heard = [queue.take(BLOCK) for _ in range(29)]
    assert queue.count == 2 and rms(np.concatenate([each for each in heard if each is not None])[-BLOCK:]) < 0.01
    for _ in range(10):
        last = queue.take(BLOCK)
    assert last is not None and rms(last) == pytest.approx(0.25 / 2**0.5, rel=0.1)
    assert queue.clear() == 1 and queue.seconds <= 0.01
    end = queue.take(BLOCK)
    assert end is not None and end[-1] == 0 and queue.take(BLOCK) is None


def test_a_gain_moves_without_a_click_and_mute_silences() -> None:
    mixer = Mixer(Mix())
    bed = _stereo(40 * BLOCK, 0.25)
    out = []
    for at in range(40):
        if at == 10:
            mixer.mix = Mix(bed_gain=0.25)
        if at == 20:
            mixer.mix = Mix(mute=True)
        if at == 30:
            mixer.mix = Mix(mute_bed=True)
        out.append(mixer.blend(bed[at * BLOCK : (at + 1) * BLOCK], None))
    heard = np.concatenate(out)
    assert _largest_step(heard) < 0.02
    levels = [rms(heard[at * BLOCK : (at + 1) * BLOCK]) for at in (8, 18, 28, 38)]
    assert levels == pytest.approx([0.177, 0.044, 0.0, 0.0], abs=0.005)


def test_the_bed_is_ducked_under_the_speech_and_comes_back() -> None:
    mixer = Mixer(Mix())
    bed, speech = _stereo(BLOCK * 150, 0.25), _tone(BLOCK, 0.3)
    for at in range(150):
        mixer.blend(bed[at * BLOCK : (at + 1) * BLOCK], speech if 20 <= at < 60 else None)
        if at == 19:
            before = mixer.bed_db
        if at == 59:
            under = mixer.bed_db
            assert mixer.speech_db > mixer.bed_db
    assert before - under == pytest.approx(12, abs=2.5)
    assert mixer.bed_db == pytest.approx(before, abs=0.2)
    unducked = Mixer(Mix(ducking={"enabled": False}))  # type: ignore[arg-type]
    for at in range(30):
        unducked.blend(bed[at * BLOCK : (at + 1) * BLOCK], speech)
    assert unducked.bed_db == pytest.approx(before, abs=0.2)


def test_the_mix_never_clips() -> None:
    mixer = Mixer(Mix(bed_gain=4.0, speech_gain=4.0))
    loud, said = _stereo(BLOCK * 50, 0.9), _tone(BLOCK, 0.9)
    out = np.concatenate([mixer.blend(loud[at * BLOCK : (at + 1) * BLOCK], said) for at in range(50)])
    assert float(np.abs(out[BLOCK:]).max()) <= 10 ** (-1 / 20) + 1e-3


def test_what_the_encoder_makes_is_adts_that_ffmpeg_decodes_to_the_same_tone() -> None:
    encoder = AacEncoder(128_000)
    whole = _stereo(RATE, 0.25)
    data = b"".join(encoder.encode(whole[at : at + BLOCK]) for at in range(0, RATE, BLOCK))
    frames, at = 0, 0
    while at < len(data):
        length = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        assert data[at : at + 7] == adts_header(length - 7)
        at += length
        frames += 1
    assert frames in (RATE // FRAME_SAMPLES, RATE // FRAME_SAMPLES - 1) and at == len(data)
    command = ["ffmpeg", "-v", "error", "-f", "aac", "-i", "pipe:0", "-f", "f32le", "pipe:1"]
    decoded = np.frombuffer(subprocess.run(command, input=data, capture_output=True, check=True).stdout, "<f4")[::2]
    spectrum = np.abs(np.fft.rfft(decoded[4_096 : 4_096 + 24_000] * np.hanning(24_000)))
    assert abs(np.argmax(spectrum) * 2 - 440) <= 2
    assert rms(decoded[4_096:-4_096].astype(np.float32)) == pytest.approx(0.25 / 2**0.5, rel=0.05)


async def test_a_slow_listener_skips_and_the_others_miss_nothing() -> None:
    listeners = Listeners(backlog=4, stuck_s=60)
    quick, slow, gate = bytearray(), bytearray(), asyncio.Event()

    async def write_quick(data: bytes) -> None:
        quick.extend(data)

    async def write_slow(data: bytes) -> None:
        slow.extend(data)
        await gate.wait()

    tasks = [asyncio.create_task(listeners.follow(write)) for write in (write_quick, write_slow)]
    await asyncio.sleep(0)
    for number in range(12):
        listeners.publish(bytes([number]))
        while len(quick) <= number:
            await asyncio.sleep(0)
    gate.set()
    while slow[-1] != 11:
        await asyncio.sleep(0)
    assert bytes(quick) == bytes(range(12)) and bytes(slow) == bytes([0, 8, 9, 10, 11])
    assert listeners.skipped == 7 and listeners.dropped == 0
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_listener_that_takes_nothing_is_dropped() -> None:
    listeners = Listeners(backlog=4, stuck_s=0.01)

    async def never(data: bytes) -> None:
        await asyncio.Event().wait()

    following = asyncio.create_task(listeners.follow(never))
    await asyncio.sleep(0)
    listeners.publish(b"0")
    with pytest.raises(Stuck):
        await following
    assert listeners.dropped == 1


def test_there_are_no_more_listeners_than_places() -> None:
    listeners = Listeners(backlog=4, stuck_s=1, most=1)
    with listeners.place():
        with pytest.raises(Full), listeners.place():
            pass
        assert (listeners.count, listeners.refused) == (1, 1)
    assert listeners.count == 0


def test_where_the_tone_goes() -> None:
    assert ingest_url("http://h:9000") == "http://h:9000/ingest"
    assert ingest_url("http://h:9000/?token=x") == "http://h:9000/ingest?token=x"
    assert ingest_url("https://h/audio/ingest") == "https://h/audio/ingest"
    with pytest.raises(ConfigError):
        ingest_url("h:9000")
