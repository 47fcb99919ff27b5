"""``captions`` in the config file, and as the worker is told of it."""

from __future__ import annotations

import pytest

from babelcast.config_file import parse_config
from babelcast.errors import ConfigError
from babelcast.media_server.base import PathInfo
from babelcast.orchestrator.desired import Settings, worker_spec
from babelcast.spec import CaptionsSpec
from tests.fakes.fake_media_server import FakeMediaServer

pytestmark = pytest.mark.unit


def spec_of(text: str) -> CaptionsSpec:
    settings = Settings(parse_config(text))
    path = PathInfo("live/show/in", True, None, None, ("H264", "MPEG-4 Audio"), 0, 0, 0)
    return worker_spec("show", path, settings, FakeMediaServer()).captions


def test_nothing_is_embedded_unless_asked_for() -> None:
    assert spec_of("streams: {show: {}}") == CaptionsSpec(embed="off", language=None)


def test_a_stream_asks_for_them_in_the_programmes_language_or_another_of_its_own() -> None:
    assert spec_of("defaults: {captions: {embed: cea608}}\nstreams: {show: {}}").embed == "cea608"
    found = spec_of("streams: {show: {captions: {embed: cea608, language: en}}}")
    assert found == CaptionsSpec(embed="cea608", language="en")


@pytest.mark.parametrize("wrong", ["{embed: cea708}", "{language: fr}", "{embed: yes}", "{format: vtt}"])
def test_what_can_not_be_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(ConfigError, match="captions"):
        parse_config(f"streams: {{show: {{captions: {wrong}}}}}")
