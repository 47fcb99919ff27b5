"""``babelcast sts --ray`` where it can't begin; what needs Ray is in tests/sts/cluster."""

from __future__ import annotations

import sys

import pytest
from click.testing import CliRunner

from babelcast.cli.sts import command
from babelcast.errors import ConfigError, MissingDependencyError

pytestmark = pytest.mark.unit


def test_without_ray_it_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    found = CliRunner().invoke(command, ["--ray", "--engine", "tone"])
    assert isinstance(found.exception, MissingDependencyError)
    assert "pip install 'babelcast[sts,ray]'" in str(found.exception)


@pytest.mark.parametrize("option", [["--ray-address", "auto"], ["--detach"], ["--remove"]])
def test_options_of_a_cluster_go_with_ray(option: list[str]) -> None:
    found = CliRunner().invoke(command, ["--engine", "tone", *option])
    assert found.exit_code == 2 and "go with --ray" in found.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "0"], "--ray needs a --port"),
        (["--detach", "--remove"], "not both"),
        (["--replicas", "3:1"], "write 2, or 1:4"),
        (["--detach"], "there is no cluster to leave it running on"),
        (["--tls-cert", __file__], "--tls-cert and --tls-key go together"),
        (["--ray-address", "head"], "is no address of a cluster"),
    ],
)
def test_what_does_not_go_together_is_said(options: list[str], said: str) -> None:
    found = CliRunner().invoke(command, ["--ray", "--engine", "tone", *options])
    assert said in (str(found.exception) if isinstance(found.exception, ConfigError) else found.output)
