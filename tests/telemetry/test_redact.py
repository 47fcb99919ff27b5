from __future__ import annotations

import json
import logging

import pytest

from babelcast.telemetry.logs import JsonFormatter, RateLimited, TextFormatter
from babelcast.telemetry.redact import redact, redact_url

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtmps://a.rtmp.youtube.com/live2/abcd-1234", "rtmps://a.rtmp.youtube.com/live2/***"),
        ("rtmp://127.0.0.1:1935/live/my-show/in", "rtmp://127.0.0.1:1935/live/my-show/in"),
        ("rtmp://127.0.0.1/live/my-show/out/es", "rtmp://127.0.0.1/live/my-show/out/es"),
        ("rtmp://u:p@host/app/key?pass=x&a=b", "rtmp://***@host/app/***?pass=***&a=***"),
        (
            "rtmps://live-api-s.example:443/rtmp/FB-1?s_bl=1&a=AbC",
            "rtmps://live-api-s.example:443/rtmp/***?s_bl=***&a=***",
        ),
        ("rtmps://host:443/app#KEY", "rtmps://host:443/app#***"),
        ("srt://h:9000?passphrase=secret12345&mode=caller", "srt://h:9000?passphrase=***&mode=caller"),
        ("http://127.0.0.1:8080/x?token=t", "http://127.0.0.1:8080/x?token=***"),
        ("rtmp://[::1]:1935/live2/k", "rtmp://[::1]:1935/live2/***"),
        ("https://gw/v1?api_key=s&x=1&access_token=t", "https://gw/v1?api_key=***&x=1&access_token=***"),
        (
            "https://s3/in.mp4?X-Amz-Credential=AK&X-Amz-Signature=s",
            "https://s3/in.mp4?X-Amz-Credential=***&X-Amz-Signature=***",
        ),
        (
            "https://cdn/a?client-secret=s&sig=s&auth=s&keyframe=2",
            "https://cdn/a?client-secret=***&sig=***&auth=***&keyframe=2",
        ),
        ("rtmp://host:notaport/app/key", "***"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_urls_and_tokens_inside_text() -> None:
    text = redact("open 'rtmp://h/app/SECRET' failed, Authorization: Bearer abc.def")
    assert text == "open 'rtmp://h/app/***' failed, Authorization: Bearer ***"


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "babelcast.x", "levelno": 20, "levelname": "INFO", "msg": message})
    vars(made).update(fields)
    return made


def test_json_lines_carry_ids_and_no_secret() -> None:
    line = json.loads(JsonFormatter().format(record("to rtmp://h/a/KEY", streamId="s1", url="rtmp://h/a/KEY")))
    assert line["streamId"] == "s1"
    assert line["level"] == "info"
    assert "KEY" not in json.dumps(line)


def test_text_lines_carry_no_secret() -> None:
    assert "KEY" not in TextFormatter().format(record("x", url="rtmp://h/a/KEY"))


def test_rate_limited_counts_what_it_swallows() -> None:
    limited = RateLimited(interval_s=3600)
    assert limited.ready() == 0
    assert limited.ready() is None
    assert RateLimited(interval_s=0).ready() == 0
