from __future__ import annotations

import pytest

from babelcast.bridge import command
from babelcast.bridge.command import Pipes
from babelcast.bridge.plan import plan
from babelcast.bridge.settings import load

pytestmark = pytest.mark.unit

_PIPES = Pipes(playlist=3, sound=4, progress=5, count=6)
_TEXT = (
    "SRT_URL=srt://host:1?passphrase=s3cret\nPRIMARY_RTMP_URL=rtmp://host/app\nPRIMARY_STREAM_KEY=s3cret\n"
    "AUDIO_SOURCE=https://host/stream?token=s3cret\n"
)


def _option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_addresses_are_in_no_argument() -> None:
    settings = load({}, None, _TEXT)
    words = command.programme(settings, "libx264", "source", "pipe", _PIPES)
    assert not any("s3cret" in word for word in words)
    assert not any("s3cret" in word for word in command.sound("https://host/stream?token=s3cret", 3))
    assert "s3cret" in command.playlist("srt://host:1?passphrase=s3cret")
    shown = plan(settings, "libx264")
    assert "s3cret" not in shown and "libx264" in shown and "rtmp://host/app" in shown


def test_a_quote_in_an_address_ends_no_string() -> None:
    assert r"file 'srt://h?passphrase=a'\''b'" in command.playlist("srt://h?passphrase=a'b")


def test_encoders() -> None:
    settings = load({}, None, f"SRT_URL={__file__}\nFPS=25\nVIDEO_BITRATE=1M\n")
    x264 = command.programme(settings, "libx264", "source", "input", _PIPES)
    assert _option(x264, "-preset") == "veryfast" and _option(x264, "-g") == "50" and _option(x264, "-bf") == "0"
    assert "0:a:0?" in x264 and "pipe:4" not in x264 and f"file:{__file__}" in x264
    nvenc = command.programme(settings, "h264_nvenc", "source", "pipe", _PIPES)
    assert _option(nvenc, "-preset") == "p4" and _option(nvenc, "-rc") == "cbr" and "1:a:0" in nvenc
    copied = command.programme(settings, "copy", "source", "input", _PIPES)
    assert _option(copied, "-c:v") == "copy" and "-vf" not in copied
    assert "libx264" in command.programme(settings, "copy", "slate", "pipe", _PIPES)
