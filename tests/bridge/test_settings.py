from __future__ import annotations

from pathlib import Path

import pytest

from babelcast.bridge.service import SettingsFile, deliveries
from babelcast.bridge.settings import listens, load, parse_env
from babelcast.errors import ConfigError

pytestmark = pytest.mark.unit


def test_the_file_overrides_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "media.env"
    file.write_text("# keys\nexport PRIMARY_STREAM_KEY='a=b'\n\nFPS=25\nVIDEO_BITRATE=2.5M\nGOP=\n")
    environ = {"FPS": "60", "PRIMARY_RTMP_URL": "rtmp://host/app", "GOP": "9", "SRT_URL": "srt://host:1", "HOME": "/"}
    settings = load(environ, file)
    assert (settings.fps, settings.video_bitrate, settings.key_distance) == (25, 2_500_000, 50)
    assert settings.primary_stream_key and settings.primary_stream_key.get_secret_value() == "a=b"
    assert settings.source_url and settings.source_url.get_secret_value() == "srt://host:1"


@pytest.mark.parametrize("inner", ["SRT_URL", "SOURCE_URL"])
@pytest.mark.parametrize("outer", ["SRT_URL", "SOURCE_URL"])
def test_the_file_overrides_the_source_under_either_name(outer: str, inner: str) -> None:
    settings = load({outer: "srt://old:1"}, None, f"{inner}=srt://new:1\n")
    assert settings.source_url and settings.source_url.get_secret_value() == "srt://new:1"
    with pytest.raises(ConfigError, match=f"media.env:1: {inner}: must be"):
        load({outer: "srt://old:1"}, None, f"{inner}=gopher://new:1\n")
    with pytest.raises(ConfigError, match=f"environment: {outer}: must be"):
        load({outer: "gopher://old:1"}, None, "FPS=25\n")


def test_a_changed_source_replaces_the_other_name_too(tmp_path: Path) -> None:
    file = tmp_path / "media.env"
    file.write_text("# mine\nSOURCE_URL=srt://old:1\nFPS=25\n")
    SettingsFile(file, {}).change({"SRT_URL": "srt://new:1"})
    assert file.read_text() == "# mine\nFPS=25\nSRT_URL=srt://new:1\n"
    SettingsFile(file, {}).change({"SOURCE_URL": None})
    assert "SRT_URL" in file.read_text(), "taking one out does not take the other"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("FPS=25\nthis is not a setting\n", "media.env:2: this is not NAME=value"),
        ("\n\nFPS=many\n", "media.env:3: FPS: "),
        ("FSP=25\n", "media.env:1: FSP: there is no such setting (did you mean FPS?)"),
        ("SLATE_TEXT='half\n", "media.env:1: SLATE_TEXT: the quote is not closed"),
        ("\nSRT_URL=gopher://host\n", "media.env:2: SRT_URL: must be a file's path or an address"),
        (
            "SRT_URL=srt://:9000\n",
            "media.env:1: SRT_URL: has no host: srt://HOST:PORT; to wait for a caller, srt://:PORT?mode=listener",
        ),
        ("SRT_URL=/no/such.mp4\n", "media.env:1: SRT_URL: there is no such file: /no/such.mp4"),
        ("AUDIO_SOURCE=file:/no/such.wav\n", "media.env:1: AUDIO_SOURCE: there is no such file: /no/such.wav"),
        ("SLATE_IMAGE=no.png\n", "media.env:1: SLATE_IMAGE: there is no such file: no.png"),
        ("ALERT_WEBHOOK_URL=hooks\n", "media.env:1: ALERT_WEBHOOK_URL: must be an address of http, https"),
        ("PRIMARY_RTMP_URL=http://host/app\n", "media.env:1: PRIMARY_RTMP_URL: must be rtmp://"),
        ("VIDEO_SIZE=321x180\n", "media.env:1: VIDEO_SIZE: must be WIDTHxHEIGHT"),
        ("VIDEO_BITRATE=fast\n", "media.env:1: VIDEO_BITRATE: must be a number of bits"),
        ("PRIMARY_STREAM_KEY=s3cret\n", "PRIMARY_STREAM_KEY is given without PRIMARY_RTMP_URL"),
    ],
)
def test_a_bad_line_is_named_by_its_number_and_not_by_its_value(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({}, None, text)
    assert says in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_bad_variable_is_named_with_the_environment() -> None:
    with pytest.raises(ConfigError, match="environment: FPS"):
        load({"FPS": "0"})


def test_no_secret_is_shown() -> None:
    text = (
        "SRT_URL=srt://host:1?passphrase=s3cret-1\nPRIMARY_RTMP_URL=rtmp://u:s3cret-2@host/app\n"
        "PRIMARY_STREAM_KEY=s3cret-3\nBACKUP_RTMP_URL=rtmp://host/app/s3cret-4\n"
        "AUDIO_SOURCE=http://host/stream?token=s3cret-5\nALERT_WEBHOOK_URL=http://host/?token=s3cret-6\n"
    )
    settings = load({}, None, text)
    assert "s3cret" not in str(settings.shown())
    assert "s3cret" not in repr(settings.primary_stream_key)
    first, second = deliveries(settings, "rtmp://127.0.0.1/x")
    assert first.key and first.key.get_secret_value() == "s3cret-3" and second.key is None


def test_the_last_of_two_lines_counts() -> None:
    assert parse_env("FPS=1\nFPS=2\n") == {"FPS": ("2", 2)}


def test_a_change_keeps_the_other_lines_and_a_wrong_one_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "media.env"
    file.write_text("# ours\nFPS=25\nGOP=50\n")
    settings = SettingsFile(file, {})
    settings.change({"FPS": "30", "GOP": None, "AUDIO_SOURCE": "silence"})
    assert file.read_text() == "# ours\nFPS=30\nAUDIO_SOURCE=silence\n"
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError):
        settings.change({"FPS": "0"})
    with pytest.raises(ConfigError):
        settings.change({"SLATE_TEXT": "two\nlines"})
    assert "FPS=30" in file.read_text()
    with pytest.raises(ConfigError, match="no settings file"):
        SettingsFile(None, {}).change({"FPS": "30"})


@pytest.mark.parametrize(
    ("address", "waits"),
    [
        ("srt://:9000?mode=listener", True),
        ("srt://0.0.0.0:1?mode=listener&passphrase=x", True),
        ("srt://h:1", False),
        ("udp://:5000", True),
    ],
)
def test_who_calls(address: str, waits: bool) -> None:
    assert listens(address) is waits
    assert load({}, None, f"SRT_URL={address}\n").source_url is not None
