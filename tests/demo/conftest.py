from __future__ import annotations

from pathlib import Path

import pytest

from babelcast.demo.clip import make_clip


@pytest.fixture(scope="session")
def short_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made clip of 14 s: three sentences, six flashes."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(path, 14)
    return path
