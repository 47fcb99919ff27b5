"""What the pages say can be followed: links lead somewhere, commands and their options exist, settings are accepted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from babelcast.cli import cli
from babelcast.config_file import parse_config

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "bench/README.md", *ROOT.glob("docs/**/*.md")])
_CONFIG_KEYS = re.compile(r"^(defaults|streams|speech|listen|gemini|openai|bridge|preview|media_server):", re.MULTILINE)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> Iterator[str]:
    """Fenced code of a language, in whatever list it stands."""
    for indent, body in re.findall(rf"^( *)```{language}\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL):
        yield "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{name(page)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_targets_of_make_exist(page: Path) -> None:
    there = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`|\$ )make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE))
    assert named <= there, named - there


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_their_options_exist(page: Path) -> None:
    text = page.read_text().replace("\\\n", " ")
    for line in re.findall(r"babelcast ([a-z][^`\n#|·]*)", text):
        words = line.split()
        command: click.Command | None = cli
        while isinstance(command, click.Group) and words:
            command = command.get_command(click.Context(command), words[0])
            if command:
                words.pop(0)
        if command is None or command is cli:  # prose
            continue
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        used = {word.split("=")[0].strip("()[],.;:'\"") for word in words if word.startswith(("--", "[--", "(--"))}
        assert used <= {*known, "--help"}, f"{name(page)}: babelcast {line}: {used - known}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_settings_are_accepted(page: Path) -> None:
    for text in blocks(page, "ya?ml"):
        if _CONFIG_KEYS.search(text):
            needed = {variable: "value-of-it" for variable in re.findall(r"\$\{([A-Z_]+)", text)}
            parse_config(text, file=name(page), environment=needed)
