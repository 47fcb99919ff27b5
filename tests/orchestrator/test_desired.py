from __future__ import annotations

from pathlib import Path

import pytest

from babelcast.config_file import parse_config
from babelcast.media_server.base import ReadProtocol
from babelcast.orchestrator.desired import Settings, Source, Wanted, desired_sources, worker_spec
from babelcast.spec import SourceLossSpec, WorkerSpec
from babelcast.units import NS_PER_S
from tests.fakes.fake_media_server import FakeMediaServer, path_info

pytestmark = pytest.mark.unit

CONFIG = parse_config(
    """
defaults: {backend: none}
speech: {url: "http://speech.example:8090", token: s3cret-token}
streams:
  two: {target_languages: [es, de], delay: 9, backend: sts, voice: carla}
"""
)
SETTINGS = Settings(CONFIG, journal_dir=Path("/j"), source_grace_s=10.0)
S = NS_PER_S


def spec_of(
    stream_id: str,
    tracks: tuple[str, ...] = ("H264", "MPEG-4 Audio"),
    *,
    also: tuple[ReadProtocol, ...] = ("rtsp", "srt"),
) -> WorkerSpec:
    path = path_info(f"live/{stream_id}/in", tracks=tracks)
    return worker_spec(stream_id, path, SETTINGS, FakeMediaServer(also=also))


def test_a_stream_without_settings_gets_the_defaults() -> None:
    spec = spec_of("any")
    assert [target.output_url for target in spec.targets] == ["rtmp://127.0.0.1:1935/live/any/out"]
    assert (spec.targets[0].language, spec.backend.kind, spec.backend.token, spec.delay_s) == ("es", "none", None, 6.0)
    assert spec.journal_dir == Path("/j/any")


def test_several_languages_get_a_path_each() -> None:
    spec = spec_of("two")
    assert [target.output_url for target in spec.targets] == [
        "rtmp://127.0.0.1:1935/live/two/out/es",
        "rtmp://127.0.0.1:1935/live/two/out/de",
    ]
    assert (spec.delay_s, spec.targets[1].voice) == (9.0, "carla")
    assert spec.backend.url == "http://speech.example:8090"
    assert spec.backend.token is not None and spec.backend.token.get_secret_value() == "s3cret-token"


def test_the_speech_service_that_up_started_wins() -> None:
    settings = Settings(CONFIG, speech_urls={"sts": "http://127.0.0.1:5555"})
    spec = worker_spec("two", path_info("live/two/in"), settings, FakeMediaServer())
    assert spec.backend.url == "http://127.0.0.1:5555"
    assert spec.backend.token is None, "the token is not for this one"


@pytest.mark.parametrize(
    ("tracks", "also", "scheme"),
    [
        (("H264", "MPEG-4 Audio"), ("rtsp", "srt"), "rtmp"),
        (("MPEG-4 Audio",), ("rtsp", "srt"), "rtmp"),
        ((), ("rtsp", "srt"), "rtmp"),
        (("H264", "G711"), ("rtsp", "srt"), "rtmp"),
        (("H264", "Opus"), ("rtsp", "srt"), "srt"),
        (("H265", "MPEG-4 Audio"), ("rtsp", "srt"), "srt"),
        (("H264", "Opus"), ("rtsp",), "rtsp"),
        (("AV1", "Opus"), ("rtsp", "srt"), "rtsp"),
        (("AV1", "Opus"), ("srt",), "rtmp"),
        (("H264", "Opus"), (), "rtmp"),
    ],
)
def test_the_ingest_protocol_follows_the_tracks(
    tracks: tuple[str, ...], also: tuple[ReadProtocol, ...], scheme: str
) -> None:
    assert spec_of("a", tracks, also=also).ingest_url.startswith(f"{scheme}://")


def wanted(paths: list[str], before: Wanted, now_s: float) -> Wanted:
    infos = [path_info(name) for name in paths]
    return desired_sources(infos, before, SETTINGS, FakeMediaServer(), round(now_s * S))


def test_only_online_ingest_paths_are_wanted() -> None:
    infos = [path_info("live/a/in"), path_info("live/b/in", online=False), path_info("live/c/out"), path_info("x")]
    assert list(desired_sources(infos, Wanted(), SETTINGS, FakeMediaServer(), 0).sources) == ["a"]


def test_a_source_that_goes_is_kept_for_the_grace_period() -> None:
    state = wanted(["live/a/in"], Wanted(), 0)
    state = wanted([], state, 5)
    assert state.sources["a"].gone_since_ns == 5 * S
    state = wanted([], state, 14.9)
    assert state.sources["a"].gone_since_ns == 5 * S
    assert wanted([], state, 15).sources == {}


def test_a_worker_is_kept_to_the_end_of_its_own_ladder() -> None:
    spec = spec_of("a").model_copy(update={"source_loss": SourceLossSpec(end_after_s=60)})
    gone = wanted([], Wanted({"a": Source(spec)}), 0)
    assert "a" in wanted([], gone, 70).sources  # 60 s on air, 6 s behind the source, and some to notice
    assert wanted([], gone, 71).sources == {}


def test_a_source_that_comes_back_in_time_keeps_its_spec_and_gets_a_new_grace() -> None:
    first = wanted(["live/a/in"], Wanted(), 0)
    gone = wanted([], first, 1)
    assert gone.specs == first.specs
    back = wanted(["live/a/in"], gone, 9)
    assert back == first
    assert "a" in wanted([], wanted([], back, 20), 29).sources


def test_within_its_grace_a_stream_keeps_the_spec_of_its_last_tracks() -> None:
    opus = Wanted({"a": Source(spec_of("a", ("H264", "Opus")))})
    assert wanted([], opus, 1).specs["a"].ingest_url.startswith("srt://")


def test_cloud_backends_carry_their_own_keys_and_nobody_elses() -> None:
    config = parse_config(
        """
defaults: {backend: [gemini-live, openai-realtime, sts]}
speech: {url: "http://speech.example:8090", token: s3cret-token}
gemini: {api_key: g-key, model: other, usd_per_m_in: 1.5, budget_usd_per_hour: 2}
openai: {api_key: o-key}
"""
    )
    spec = worker_spec("any", path_info("live/any/in"), Settings(config), FakeMediaServer())
    keys = [each.token.get_secret_value() if each.token else None for each in (spec.backend, *spec.standby_backends)]
    assert keys == ["g-key", "o-key", "s3cret-token"]
    assert [each.kind for each in spec.standby_backends] == ["openai-realtime", "sts"]
    assert (spec.backend.model, spec.backend.usd_per_m_in, spec.backend.budget_usd_per_hour) == ("other", 1.5, 2.0)
    assert spec.backend.url is None
    again = WorkerSpec.model_validate_json(spec.model_dump_json())
    assert again == spec and "g-key" not in repr(spec)
