"""Rules for every test: a marker is mandatory, and what was skipped is said at the end."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

LEVELS = {"unit", "integration", "e2e"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    unmarked = [item.nodeid for item in items if not LEVELS & {mark.name for mark in item.iter_markers()}]
    if unmarked:
        raise pytest.UsageError(f"tests without a unit, integration or e2e marker: {', '.join(unmarked)}")


def mediamtx_binary() -> str | None:
    """The binary on PATH or in Babelcast's cache."""
    found = shutil.which("mediamtx")
    if found:
        return found
    cached = sorted((Path.home() / ".cache" / "babelcast" / "mediamtx").glob("*/mediamtx"))
    return str(cached[-1]) if cached else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("mediamtx") and mediamtx_binary() is None:
        pytest.skip("no mediamtx binary on PATH or in the cache (babelcast mediamtx install)")
    if item.get_closest_marker("gpu") and shutil.which("nvidia-smi") is None:
        pytest.skip("no GPU here")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = sorted({str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped if report.longrepr})
    terminalreporter.write_line(
        f"not run here: {len(skipped)} tests ({'; '.join(reasons)})" if skipped else "not run here: nothing"
    )


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A TCP port of 127.0.0.1 that was free a moment ago."""

    def take() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return take
