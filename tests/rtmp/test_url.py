from __future__ import annotations

import pytest

from babelcast.errors import RtmpError
from babelcast.rtmp.url import asking_longer, join_path, parse_url

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("url", "key", "app", "name", "tc_url"),
    [
        ("rtmp://h/live/x/in", None, "live/x", "in", "rtmp://h/live/x"),
        ("rtmp://h:1936/live/x/out/es", None, "live/x/out", "es", "rtmp://h:1936/live/x/out"),
        ("rtmp://h/app/key?user=u&pass=p", None, "app", "key?user=u&pass=p", "rtmp://h/app"),
        ("rtmps://a.rtmp.youtube.com/live2", "K-1", "live2", "K-1", "rtmps://a.rtmp.youtube.com/live2"),
        ("rtmp://h/live", "x/in", "live", "x/in", "rtmp://h/live"),
        ("rtmps://h:443/rtmp/?s=1", "K?a=b", "rtmp?s=1", "K?a=b", "rtmps://h:443/rtmp?s=1"),
        ("rtmp://[::1]:1935/a/b", None, "a", "b", "rtmp://[::1]:1935/a"),
        ("rtmp://h/only", None, "", "only", "rtmp://h/"),
    ],
)
def test_split(url: str, key: str | None, app: str, name: str, tc_url: str) -> None:
    target = parse_url(url, key)
    assert (target.app, target.key, target.tc_url) == (app, name, tc_url)


def test_ports() -> None:
    assert parse_url("rtmp://h/a/b").port == 1935
    assert parse_url("rtmps://h/a/b").port == 443
    assert parse_url("rtmps://h:1936/a/b").port == 1936


@pytest.mark.parametrize(
    "url", ["http://h/a/b", "rtmp:///a/b", "rtmp://h", "rtmp://h:port/a/b", "", "rtmp://h:99999/a"]
)
def test_bad_addresses_are_not_retryable_and_not_repeated_in_the_error(url: str) -> None:
    with pytest.raises(RtmpError) as caught:
        parse_url(url)
    assert not caught.value.retryable
    assert "99999" not in str(caught.value)


@pytest.mark.parametrize(
    ("app", "name", "path", "query"),
    [
        ("live", "x/in", "live/x/in", ""),
        ("live/x", "in", "live/x/in", ""),
        ("/live/x/", "/in/", "live/x/in", ""),
        ("live/x/in", "", "live/x/in", ""),
        ("", "in", "in", ""),
        ("live?a=1", "x/in?user=u&pass=p", "live/x/in", "a=1&user=u&pass=p"),
    ],
)
def test_join(app: str, name: str, path: str, query: str) -> None:
    assert join_path(app, name) == (path, query)


def test_asking_for_more_of_the_past() -> None:
    assert asking_longer("rtmp://h/live/a/in") == "rtmp://h/live/a/in?longer"
    assert asking_longer("rtmps://h/live/a/in?user=u&pass=p") == "rtmps://h/live/a/in?user=u&pass=p&longer"
    assert asking_longer("srt://h:1?streamid=read:x") == "srt://h:1?streamid=read:x"
