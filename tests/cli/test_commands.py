"""Every command's help, and how a wrong use is answered."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from babelcast.cli import _COMMANDS
from babelcast.cli.options import log_format_option

pytestmark = pytest.mark.integration

COMMANDS = tuple(_COMMANDS)


def babelcast(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "babelcast", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_the_list_of_commands() -> None:
    done = babelcast("--help")
    assert done.returncode == 0
    assert all(f"  {command} " in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    done = babelcast(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: babelcast {command} ")
    description = done.stdout.split("\n\n")[1]
    assert description.strip().endswith((".", ".)")), description


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("defaults:\n  dealy: 6\n", ":2: defaults.dealy: there is no setting 'dealy' here (did you mean delay?)"),
        ("defaults:\n  delay: 60\n", ":2: defaults.delay: "),
        ("streams:\n  show:\n    destinations:\n      - {name: x, url: http://h/app}\n", ":4: "),
        ("streams:\n  show:\n    destinations: [{name: x, url: rtmp://h/a, key: '${NOT_THERE_1}'}]\n", ":3: "),
        ("listen: [1935\n", "not valid YAML"),
        ("streams:\n  My Show: {}\n", ":2: streams.My Show: a stream's name has small letters"),
        ("listen: {api_host: 0.0.0.0}\n", "set api_token as well"),
    ],
)
def test_a_wrong_config_is_named_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    done = babelcast("up", "--config", str(tmp_path / "c.yaml"))
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"babelcast: {tmp_path / 'c.yaml'}") and said in line


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        ("demo --report FILE/report", 1, "can't use FILE/report: not a directory"),
        ("egress --folder FILE/egress", 1, "can't use FILE/egress: not a directory"),
        ("preview --folder FOLDER", 1, "can't read FOLDER/settings.json: no such file or directory"),
        ("orchestrator --media-server-api localhost:9997", 2, "--media-server-api: the address begins with http://"),
        ("relay --host no-such-host.invalid --rtmp-port 0", 1, "for RTMP: "),
    ],
)
def test_what_can_not_be_had_is_said_in_one_line(argv: str, status: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    places = {"FILE": str(tmp_path / "file"), "FOLDER": str(tmp_path)}
    for word, place in places.items():
        argv, said = argv.replace(word, place), said.replace(word, place)
    done = babelcast(*argv.split())
    assert done.returncode == status
    assert done.stderr.splitlines()[-1].startswith("babelcast: ") and said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and "another program" not in done.stderr


@pytest.mark.parametrize(("terminal", "expected"), [(True, "text"), (False, "json")])
def test_log_lines_are_for_who_reads_them(terminal: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    @log_format_option
    def command(log_format: str) -> None:
        found.append(log_format)

    found: list[str] = []
    monkeypatch.setattr("sys.stderr", _Terminal() if terminal else io.StringIO())
    for arguments in ([], ["--log-format", "json"], ["--log-format", "text"]):
        command.main(arguments, standalone_mode=False)
    assert found == [expected, "json", "text"]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_config_file(tmp_path: Path) -> None:
    done = babelcast("up", "--config", str(tmp_path / "none.yaml"))
    assert done.returncode == 2
    assert "no such config file" in done.stderr and "Traceback" not in done.stderr


def test_a_worker_does_its_sums_on_one_thread() -> None:
    """OpenBLAS would take every core for the shortest product."""
    script = "from babelcast.cli import worker; import numpy, os; print(len(os.listdir('/proc/self/task')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "1"


def test_no_such_command() -> None:
    done = babelcast("dubb")
    assert done.returncode == 2
    assert "No such command 'dubb'" in done.stderr


@pytest.mark.parametrize("nohup", [False, True])
def test_a_terminal_that_goes_ends_it_in_order_unless_it_was_told_to_stay(nohup: bool, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "babelcast", "relay", "--rtmp-port", "0", "--api-port", "0"]
    with subprocess.Popen(
        ["nohup", *argv] if nohup else argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # the tests themselves may run under nohup
    ) as relay:
        try:
            assert relay.stdout is not None and "listening" in relay.stdout.readline()
            relay.send_signal(signal.SIGHUP)
            if nohup:
                with pytest.raises(subprocess.TimeoutExpired):
                    relay.wait(0.5)
                relay.terminate()
            assert relay.wait(10) == 0
        finally:
            relay.kill()
