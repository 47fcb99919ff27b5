"""WCAG 2 contrast of every pair of colours that the page uses, in both themes."""

from __future__ import annotations

import re
from importlib import resources

import pytest

pytestmark = pytest.mark.unit

TEXT, LARGE = 4.5, 3.0
PAIRS = [
    *((name, ground, TEXT) for name in ("text", "muted", "accent") for ground in ("bg", "panel", "raised")),
    *((name, ground, TEXT) for name in ("ok", "notice", "warning", "alarm") for ground in ("bg", "panel", "raised")),
    ("on-accent", "accent", TEXT),
    ("on-notice", "notice", TEXT),
    ("on-alarm", "alarm", TEXT),
    # what bounds or fills a control (WCAG 1.4.11)
    *(("edge", ground, LARGE) for ground in ("bg", "panel", "raised")),
    *((name, "raised", 1.5) for name in ("meter-low", "meter-mid", "meter-high")),
]


def themes() -> dict[str, dict[str, str]]:
    css = resources.files("babelcast.console").joinpath("page", "page.css").read_text()
    found = {}
    for name, selector in (("dark", r":root \{"), ("light", r':root\[data-theme="light"\] \{')):
        block = re.search(selector + r"(.*?)\}", css, re.DOTALL)
        assert block
        found[name] = dict(re.findall(r"--([a-z-]+):\s*(#[0-9a-f]{6})\b", block[1]))
    found["light"] = found["dark"] | found["light"]
    return found


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_formula() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize(("front", "ground", "least"), PAIRS)
def test_it_can_be_read(theme: str, front: str, ground: str, least: float) -> None:
    colours = themes()[theme]
    assert contrast(colours[front], colours[ground]) >= least
