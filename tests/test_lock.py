"""Who holds a lock, and when it is free again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from babelcast.errors import LaunchError
from babelcast.lock import held, is_held

pytestmark = pytest.mark.unit

_HOLD = """
import sys, time
from pathlib import Path
from babelcast.errors import LaunchError
from babelcast.lock import held
with held(Path(sys.argv[1]), LaunchError("taken")):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_at_a_time_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    assert not is_held(path)
    with held(path, LaunchError("taken")):
        assert is_held(path) and path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(LaunchError, match="taken"), held(path, LaunchError("taken")):
            pass
    assert path.exists() and not is_held(path)


def test_it_is_free_again_when_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        assert is_held(path)
        holder.kill()
        holder.wait(10)
        assert not is_held(path)
