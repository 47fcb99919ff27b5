from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.programs import make_talk


@pytest.fixture(scope="session")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 s of speech over moving pictures."""
    return make_talk(tmp_path_factory.mktemp("talk") / "talk.mp4")
