"""The section ``preview`` of the config file."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from babelcast.config_file import parse_config
from babelcast.errors import ConfigError
from babelcast.preview.settings import PreviewSettings

pytestmark = pytest.mark.unit

_FILE = """
api_token: long-enough-token
preview:
  token: view-only-token
  frame_ancestors: [self, "https://dashboard.example"]
  ice_servers:
    - urls: stun:stun.example:3478
    - {urls: ["turn:turn.example:3478"], username: u, credential: turn-password}
  host: 192.0.2.7
  announce: 198.51.100.4
  udp_ports: 40000-40100
"""


def test_a_whole_section() -> None:
    settings = parse_config(_FILE).preview
    assert settings.frame_ancestors == ("'self'", "https://dashboard.example")
    assert [each.urls for each in settings.ice_servers] == [("stun:stun.example:3478",), ("turn:turn.example:3478",)]
    assert settings.port_range == range(40_000, 40_101)
    assert settings.announce == ("198.51.100.4",)


def test_what_the_process_is_told_holds_the_password_and_not_the_token() -> None:
    settings = parse_config(_FILE).preview
    written = settings.model_dump_json()
    assert "turn-password" in written and "view-only-token" not in written
    again = PreviewSettings.model_validate_json(written)
    assert again.ice_servers[1].credential == SecretStr("turn-password")
    assert "turn-password" not in repr(settings) and "view-only-token" not in repr(settings)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("udp_ports: 5-9", "both from 1024 to 65535"),
        ("udp_ports: 40100-40000", "both from 1024 to 65535"),
        ("ice_servers: [{urls: 'http://x'}]", "must be stun:HOST"),
        ("frame_ancestors: ['a; script-src *']", "is no origin"),
        ("host: example.org", "does not appear to be an IPv4 or IPv6 address"),
        ("viewers: 0", "greater than or equal to 1"),
    ],
)
def test_a_wrong_setting_is_named(line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        parse_config(f"preview:\n  {line}\n")
    assert error.value.line == 2


def test_a_token_for_previews_needs_one_for_the_rest() -> None:
    with pytest.raises(ConfigError, match="set that as well"):
        parse_config("preview:\n  token: view-only\n")
