"""Rules for every test: a marker is mandatory, and what was skipped is said at the end."""

from __future__ import annotations

import importlib.util
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

LEVELS = {"unit", "integration", "e2e"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # Programs in real time on a shared machine: once more where it failed, and said so (RERUN) in the summary.
        # What fails twice fails. Unit tests get one chance.
        if not item.get_closest_marker("unit"):
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=1))
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


def chromium_binary() -> str | None:
    """Debian calls it chromium; Ubuntu's package of that name is a stub for a snap."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("mediamtx") and mediamtx_binary() is None:
        pytest.skip("no mediamtx binary on PATH or in the cache (babelcast mediamtx install)")
    if item.get_closest_marker("gpu") and shutil.which("nvidia-smi") is None:
        pytest.skip("no GPU here")
    if item.get_closest_marker("ray") and importlib.util.find_spec("ray") is None:
        pytest.skip("the extra `ray` is not installed (make test-ray)")
    if item.get_closest_marker("browser") and chromium_binary() is None:
        pytest.skip("no Chromium (apt-get install chromium)")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("rerun", []):
        crash = getattr(report.longrepr, "reprcrash", None)
        why = f"{crash.path}:{crash.lineno}: {crash.message.splitlines()[0]}" if crash else str(report.longrepr)[:200]
        terminalreporter.write_line(f"first try of {report.nodeid}: {why}")
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
