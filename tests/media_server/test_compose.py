"""deploy/compose.yaml says what our own code understands."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from babelcast.config_file import parse_config
from babelcast.media_server.install import VERSION

DEPLOY = Path(__file__).parents[2] / "deploy"

pytestmark = pytest.mark.unit


def test_compose_fits_the_program() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert compose["services"]["mediamtx"]["image"].endswith(f":{VERSION}"), "the version that install gets"
    mounted = compose["services"]["mediamtx"]["volumes"][0].split(":")[0]
    assert (DEPLOY / mounted).is_file()
    text = compose["configs"]["babelcast"]["content"].replace("$$", "$")
    text = text.replace("${PREVIEW_ANNOUNCE:-127.0.0.1}", "127.0.0.1")  # compose's own
    config = parse_config(text, environment={"BABELCAST_API_TOKEN": "t"})
    server = yaml.safe_load((DEPLOY / "mediamtx.yml").read_text())
    assert config.mediamtx.api == f"http://{server['apiAddress']}"
    assert config.api_token is not None
    assert config.api_token.get_secret_value() == "t"
    image = compose["services"]["babelcast"]["build"]["dockerfile_inline"]
    assert "'.[stream,sts,console,preview]'" in image
    ports = config.preview.udp_ports
    assert f"{ports}:{ports}/udp" in compose["services"]["mediamtx"]["ports"]
    assert config.preview.port_range is not None and len(config.preview.port_range) == config.preview.viewers
