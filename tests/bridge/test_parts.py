"""The pure parts: progress, silence, switch, alarms, health, metrics."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from tests.fakes.programme import headers, picture, sound

from babelcast.bridge.alerts import Alarms, breaches
from babelcast.bridge.encoder import Figures, Words
from babelcast.bridge.events import Events
from babelcast.bridge.metrics import BridgeMetrics
from babelcast.bridge.programme import Switch
from babelcast.bridge.settings import load
from babelcast.bridge.silence import SilenceFill
from babelcast.bridge.status import BridgeStatus, EncoderStatus, SoundStatus, SourceStatus, health
from babelcast.egress.feed import Feed
from babelcast.egress.status import DestinationStatus
from babelcast.rtmp.message import Message, MessageType
from babelcast.slate.silence import SilenceAac

pytestmark = pytest.mark.unit

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_progress() -> None:
    figures = Figures()
    for line in ("frame=120", "fps=29.9", "dup_frames=3", "drop_frames=1", "speed=1.02x", "speed=N/A", "frame=x"):
        figures.take(line)
    assert (figures.frames, figures.duplicated, figures.dropped, figures.speed) == (120, 3, 1, 1.02)


def test_the_first_error_is_the_reason_and_is_redacted() -> None:
    words = Words()
    words.take("[srt @ 0x1] [error] Connection to srt://h:1?passphrase=s3cret failed: Input/output error")
    words.take("[error] pipe:3: Input/output error")
    assert "passphrase=***" in str(words.error(1)) and "s3cret" not in str(words.error(1))


def _sound_of(messages: list[Message]) -> list[int]:
    return [each.timestamp for each in messages if each.type == MessageType.AUDIO and each.payload[1] == 1]


def test_silence_from_the_first_picture_where_there_is_no_sound() -> None:
    fill = SilenceFill(SilenceAac(b"\x11\x90", b"silent"))
    out: list[Message] = []
    for number in range(50):
        out += fill.put(picture(number, number * 40))
    stamps = _sound_of(out)
    assert fill.active and stamps[0] == 0 and stamps[-1] > 49 * 40 - 23
    assert {b - a for a, b in itertools.pairwise(stamps)} == {21, 22}
    assert [each for each in out if each.payload == b"\xaf\x00\x11\x90"], "the header comes first"


def test_silence_while_sound_is_away_and_none_twice() -> None:
    fill = SilenceFill(SilenceAac(b"\x11\x90", b"silent"))
    out: list[Message] = []
    for each in headers():
        out += fill.put(each)
    for number in range(200):
        out += fill.put(picture(number, number * 40))
        if not 50 <= number < 120:
            out += [m for tag in (sound(number, number * 40),) for m in fill.put(tag)]
    stamps = _sound_of(out)
    assert stamps == sorted(stamps) and max(b - a for a, b in itertools.pairwise(stamps)) < 62
    assert not fill.active


def test_the_switch_waits_for_a_key_frame_and_prefers_the_source() -> None:
    switch = Switch(Feed())
    for each in headers():
        switch.put("slate", each, 0)
        switch.put("source", each, 0)
    assert not switch.put("slate", picture(1, 40), 0) and switch.put("slate", picture(10, 400), 0)
    assert not switch.put("source", picture(1, 40), 0), "no key frame yet"
    assert switch.put("slate", picture(11, 440), 0)
    assert switch.put("source", picture(10, 400), 0)
    assert not switch.put("slate", picture(20, 800), 0), "the slate does not come back by itself"
    switch.release("source")
    assert switch.put("slate", picture(30, 1200), 0)


def _status(**changes: object) -> BridgeStatus:
    destination = DestinationStatus(
        stream_id="bridge",
        name="primary",
        url="rtmp://h/app",
        enabled=True,
        state="live",
        since=_NOW,
        connected_since=_NOW,
        bytes_sent=5,
        bitrate_kbps=900.0,
        reconnects=2,
        dropped_tags=0,
        last_error=None,
        last_error_at=None,
    )
    fields: dict[str, object] = {
        "state": "live",
        "since": _NOW,
        "last_error": None,
        "settings_error": None,
        "feed_url": "rtmp://127.0.0.1:1/live/bridge/in",
        "source": SourceStatus(url=None, state="live", since=_NOW, reconnects=1, bitrate_kbps=800, last_error=None),
        "sound": SoundStatus(source="input", state="input", reconnects=0, last_error=None),
        "encoder": EncoderStatus(
            name="libx264", fps=20, bitrate_kbps=900, frames=9, duplicated=3, dropped=1, speed=1.0
        ),
        "destinations": (destination,),
        "alerts": (),
    }
    return BridgeStatus.model_validate(fields | changes)


def test_alerts_are_raised_once_and_cleared_once() -> None:
    settings = load({}, None, "ALERT_MIN_FPS=25\nALERT_MIN_BITRATE=1M\n")
    alarms, at = Alarms(), _NOW + timedelta(seconds=1)
    assert breaches(_status(), settings, at) == {}, "it has just begun"
    at += timedelta(seconds=10)
    found = breaches(_status(), settings, at)
    assert set(found) == {"fps", "bitrate"}
    assert [each.what for each in alarms.update(found, settings, at)] == ["raised", "raised"]
    assert alarms.update(found, settings, at) == []
    assert [each.what for each in alarms.update({}, settings, at)] == ["cleared", "cleared"]
    assert alarms.raised == ()


def test_a_destination_that_is_away_for_long_and_a_lost_source() -> None:
    settings = load({}, None, "")
    away = _status().destinations[0].model_copy(update={"state": "retrying", "last_error": "refused"})
    source = _status().source.model_copy(update={"state": "lost", "last_error": "nothing came"})
    status = _status(state="slate", destinations=(away,), source=source)
    alarms = Alarms()
    assert alarms.update(breaches(status, settings, _NOW), settings, _NOW) == []
    at = _NOW + timedelta(seconds=11)
    raised = alarms.update(breaches(status, settings, at), settings, at)
    assert {each.alert.name for each in raised} == {"source", "destination:primary"}
    assert health(status).status == "down" and "destination primary is retrying" in health(status).reasons


def test_sound_that_is_away_is_an_alert_and_its_latest_reason_is_shown() -> None:
    settings = load({}, None, "ALERT_SOURCE_AFTER=5\n")
    alarms = Alarms()

    def after(seconds: float, state: str, error: str | None) -> list[str]:
        status = _status(sound=SoundStatus(source="http://h", state=state, reconnects=1, last_error=error))  # type: ignore[arg-type]
        assert (health(status).status == "degraded") is (state in ("stalled", "retrying"))
        at = _NOW + timedelta(seconds=seconds)
        return [each.what for each in alarms.update(breaches(status, settings, at), settings, at)]

    assert after(0, "retrying", "refused") == after(4, "connecting", "refused") == []
    assert after(6, "retrying", "refused") == ["raised"]
    assert after(7, "stalled", None) == [] and alarms.raised[0].message.endswith("nothing comes of it")
    assert after(8, "live", None) == ["cleared"]


def test_metrics_and_health() -> None:
    text = BridgeMetrics(_status).text().decode()
    for line in (
        'bridge_state{state="live"} 1.0',
        "bridge_frames_duplicated_total 3.0",
        "bridge_source_reconnects_total 1.0",
        'bridge_destination_state{destination="primary",state="live"} 1.0',
        'bridge_destination_reconnects_total{destination="primary"} 2.0',
        "bridge_bitrate_out_bits_per_second 900000.0",
    ):
        assert line in text
    assert health(_status()).status == "ok"
    assert health(_status(state="stopped")).status == "down"


def test_a_listener_that_does_not_read_loses_the_oldest() -> None:
    events = Events()
    with events.listening() as queue:
        for number in range(300):
            events.put("x", {"n": number})
        assert queue.qsize() == 256 and queue.get_nowait().data == {"n": 44}
    assert len(events.recent) == 100
