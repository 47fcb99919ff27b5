"""What ``app.running`` refuses before it starts anything."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from babelcast.app import App, Launch, running
from babelcast.cli.up import ready_line
from babelcast.config import Config, Listen, StreamConfig
from babelcast.errors import BabelcastError, ConfigError, MediaServerError
from babelcast.ports import free_port, why_not

pytestmark = pytest.mark.integration


def config(**listen: int | str) -> Config:
    settings = {"host": "127.0.0.1", "rtmp": 0, "api": 0} | listen
    return Config(media_server="relay", listen=Listen.model_validate(settings))


async def refusal(config: Config, state_dir: Path) -> BabelcastError:
    steps: list[str] = []
    with pytest.raises(BabelcastError) as caught:
        async with running(config, Launch(state_dir), steps.append):
            pass
    return caught.value


@pytest.mark.parametrize("key", ["rtmp", "api"])
async def test_a_taken_port_is_named_by_its_setting(key: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = await refusal(config(**{key: port}), tmp_path)
    assert isinstance(error, ConfigError) and error.key == f"listen.{key}"
    assert re.search(rf"127\.0\.0\.1:{port}: address already in use \(.*ss -ltnp", str(error))


async def test_an_address_that_is_not_ours(tmp_path: Path) -> None:
    error = await refusal(config(host="192.0.2.1", rtmp=19_35), tmp_path)
    assert "192.0.2.1:1935: cannot assign requested address" in str(error)


async def test_a_state_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    error = await refusal(config(), tmp_path / "state")
    assert isinstance(error, ConfigError) and error.key == "state_dir"
    assert str(tmp_path / "state") in str(error)


async def test_a_mediamtx_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    error = await refusal(config().model_copy(update={"media_server": "mediamtx"}), tmp_path / "state")
    assert isinstance(error, MediaServerError) and error.hint == "babelcast mediamtx install"


def test_the_ready_line_names_every_address() -> None:
    app = App("relay", "rtmp://127.0.0.1:1935", "http://127.0.0.1:8080")
    assert ready_line(Config(), app) == (
        "ready: publish to rtmp://127.0.0.1:1935/live/my-show/in · watch rtmp://127.0.0.1:1935/live/my-show/out "
        "· API http://127.0.0.1:8080/docs · open http://127.0.0.1:8080/ (any name for my-show)"
    )
    two = Config(streams={"show": StreamConfig(target_languages=("es", "ca"))})
    assert "watch rtmp://127.0.0.1:1935/live/show/out/es rtmp://127.0.0.1:1935/live/show/out/ca" in ready_line(two, app)


def test_why_a_port_can_not_be_had() -> None:
    port = free_port()
    assert why_not("127.0.0.1", port) is None
    with socket.create_server(("127.0.0.1", port)):
        assert why_not("127.0.0.1", port) == "Address already in use"
    assert why_not("no.such.host.invalid", port)
