from __future__ import annotations

from pathlib import Path

import pytest

from babelcast.config_file import load_config, parse_config
from babelcast.errors import ConfigError

pytestmark = pytest.mark.unit

EXAMPLE = """\
media_server: auto
listen: {rtmp: 1935, api: 8080}
defaults:
  source_language: en
  target_languages: [es]
  delay: 6.0
  backend: sts
  fallback: original
streams:
  my-show:
    delay: 8
    destinations:
      - {name: youtube, url: "rtmps://a.rtmp.youtube.com/live2", key: "${YOUTUBE_KEY}"}
"""


def test_the_documented_file_is_read() -> None:
    config = parse_config(EXAMPLE, environment={"YOUTUBE_KEY": "abcd-efgh"})
    stream = config.stream("my-show")
    assert stream.delay == 8.0
    assert stream.target_languages == ("es",)
    assert stream.destinations[0].key is not None
    assert stream.destinations[0].key.get_secret_value() == "abcd-efgh"
    assert "abcd" not in repr(config)


def test_a_stream_that_is_not_named_gets_the_defaults() -> None:
    config = parse_config("defaults: {delay: 4, target_languages: [ca]}\n")
    assert config.stream("other").delay == 4.0
    assert config.stream("other").target_languages == ("ca",)


def test_an_empty_file_is_all_defaults() -> None:
    assert parse_config("").stream("x").delay == 6.0


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        ("defaults:\n  delay: 90\n", 2, "defaults.delay", "less than or equal to 20"),
        ("defaults:\n  dellay: 5\n", 2, "defaults.dellay", "did you mean delay?"),
        ("listen:\n  rtmp: 1935\n  api: x\n", 3, "listen.api", "integer"),
        ("streams:\n  Bad Name: {}\n", 2, "streams.Bad Name", "small letters"),
        ("streams:\n  a:\n    delay: 1\n", 3, "streams.a.delay", "greater than or equal to 2"),
        ("defaults:\n  fallback: nothing\nstreams:\n  a: {}\n", 2, "defaults.fallback", "'original'"),
        ("streams:\n  a:\n    destinations:\n      - {name: x, url: 'http://h/a'}\n", 4, None, "rtmps://"),
        ("defaults:\n  delay: 5\n  delay: 6\n", 3, "defaults.delay", "twice"),
        ("a: [1\n", 2, None, "not valid YAML"),
        ("listen: {api_host: 0.0.0.0}\n", 1, None, "api_token"),
        ("- a\n", 1, None, "mapping"),
        ("speech:\n  token: ${NOT_THERE}\n", 2, "speech.token", "no NOT_THERE"),
    ],
)
def test_an_error_names_the_line_and_the_key(text: str, line: int, key: str | None, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, file="b.yaml", environment={})
    assert caught.value.line == line
    if key is not None:
        assert caught.value.key == key
    assert words in str(caught.value)
    assert f"b.yaml:{line}" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "listen: {api_host: 0.0.0.0}\napi_token: ${NO_SUCH_TOKEN:-}",
        "api_token: ' '",
        "api_token: secret-1\npreview: {token: ''}",
        "audio: {host: 0.0.0.0, token: ''}",
        "audio: {stream_token: ''}",
    ],
)
def test_an_empty_token_opens_nothing_to_everybody(text: str) -> None:
    with pytest.raises(ConfigError, match="is empty: give a secret, or leave it out"):
        parse_config(text, environment={})


@pytest.mark.parametrize("text", ["defaults: &all\n  mix: *all\n", "a: " + "[" * 2_000])
def test_what_has_no_bottom_is_said_and_is_no_traceback(text: str) -> None:
    with pytest.raises(ConfigError, match="nested too deeply, or within itself"):
        parse_config(text)


def test_a_secret_never_shows_in_an_error() -> None:
    text = "streams:\n  a:\n    destinations:\n      - {name: x, url: 'ftp://h', key: '${KEY}'}\n"
    with pytest.raises(ConfigError) as caught:
        parse_config(text, environment={"KEY": "s3cret-key"})
    assert "s3cret" not in str(caught.value)


def test_a_default_serves_where_the_environment_has_nothing() -> None:
    assert parse_config("speech: {url: '${STS:-http://h:1}'}", environment={}).speech.url == "http://h:1"


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config file"):
        load_config(tmp_path / "none.yaml")


def test_a_destination_must_ask_for_a_language_that_is_made() -> None:
    text = "streams:\n  a:\n    destinations:\n      - {name: x, url: 'rtmp://h/app', language: fr}\n"
    with pytest.raises(ConfigError, match="not in target_languages"):
        parse_config(text)


def test_backends_are_one_or_a_list_in_order() -> None:
    text = "defaults: {backend: [gemini-live, sts]}\ngemini: {api_key: '${KEY}', budget_usd_per_hour: 3}\n"
    config = parse_config(text, environment={"KEY": "sEcReT"})
    assert config.defaults.backends == ("gemini-live", "sts")
    assert config.gemini.api_key is not None and "sEcReT" not in repr(config)
    assert config.languages() == {("en", "es")}  # the service has to be there for the second
    assert parse_config("").defaults.backends == ("sts",)


@pytest.mark.parametrize("backend", ["gemini", "[sts, sts]", "[none, sts]", "[]", "[gemini-live, stx]"])
def test_backends_that_can_not_be(backend: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"defaults:\n  backend: {backend}\n")
    assert caught.value.line == 2 and caught.value.key == "defaults.backend"


def test_the_engines_of_our_own_speech_service() -> None:
    config = parse_config("speech: {asr: 'faster-whisper:small', mt: [apertium], max_sessions: 8, device: cuda}")
    assert config.speech.options() == [
        "--asr", "faster-whisper:small", "--max-sessions", "8", "--mt", "apertium", "--device", "cuda",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="asr is for the service that babelcast starts itself"):
        parse_config("speech: {url: 'http://sts:8090', asr: pocketsphinx}")
