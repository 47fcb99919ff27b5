"""Rolling audio dumps: aligned to the sample, bounded on disk, and never in the way of the broadcast."""

from __future__ import annotations

import threading
import time
import wave
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from babelcast.errors import ControlsError
from babelcast.spec import DumpSpec
from babelcast.units import RATE
from babelcast.worker.dumps import Dumps

pytestmark = pytest.mark.unit

BLOCK = RATE // 10


def ramp(position: int, samples: int = BLOCK) -> bytes:
    """Each sample tells its own position."""
    left = (np.arange(position, position + samples) % 30_000).astype("<i2")
    return np.repeat(left[:, None], 2, axis=1).tobytes()


def feed(dumps: Dumps, stem: str, begin: int, end: int) -> None:
    for position in range(begin, end, BLOCK):
        dumps.take(stem, position, ramp(position))


def samples(path: Path) -> list[int]:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, RATE)
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    return [int(value) for value in pcm[:, 0]]


def test_files_of_the_same_begin_hold_the_same_time(tmp_path: Path) -> None:
    dumps = Dumps(tmp_path / "dumps", ("source", "mix.es"))
    status = dumps.start(DumpSpec(seconds=1), 2 * RATE + 5)
    assert status.active
    feed(dumps, "source", 2 * RATE, 5 * RATE)
    feed(dumps, "mix.es", 0, 4 * RATE)  # later in the flow
    status = dumps.stop()
    assert (status.active, dumps.wanted, status.error, status.dropped_blocks) == (False, False, None, 0)
    names = ["mix.es-0000003000.wav", "source-0000003000.wav", "source-0000004000.wav"]
    assert list(status.files) == names and status.bytes > 3 * RATE * 4
    heard = {name: samples(tmp_path / "dumps" / name) for name in names}
    assert heard[names[0]] == heard[names[1]] == [i % 30_000 for i in range(3 * RATE, 4 * RATE)]


def test_gaps_are_silent_and_overlaps_are_not_written_twice(tmp_path: Path) -> None:
    dumps = Dumps(tmp_path, ("source",))
    dumps.start(DumpSpec(seconds=1), 0)
    dumps.take("source", 0, ramp(0, 100))
    dumps.take("source", 50, ramp(50, 100))
    dumps.take("source", 200, ramp(200, 100))
    dumps.take("source", 100 * RATE, ramp(100 * RATE, 10))  # the source was away
    assert list(dumps.stop().files) == ["source-0000000000.wav", "source-0000100000.wav"]
    assert samples(tmp_path / "source-0000000000.wav") == [*range(150), *[0] * 50, *range(200, 300)]


def test_the_oldest_file_goes(tmp_path: Path) -> None:
    dumps = Dumps(tmp_path, ("source",))
    spec = DumpSpec(seconds=1, keep_bytes=1 << 20)  # five files of a second
    dumps.start(spec, 0)
    for second in range(20):
        feed(dumps, "source", second * RATE, (second + 1) * RATE)
        status = dumps.status()
        assert status.bytes <= spec.keep_bytes
        deadline = time.monotonic() + 5
        while len(status.files) < min(second, 4) and time.monotonic() < deadline:
            time.sleep(0.001)
            status = dumps.status()
    files = dumps.stop().files
    assert files[-1] == "source-0000019000.wav" and "source-0000000000.wav" not in files and len(files) >= 4


def test_a_full_disk_ends_the_dump_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """``/dev/full`` answers every write as a full disk does."""
    dumps = Dumps(tmp_path, ("source",), lambda path: Path("/dev/full").open("wb"))
    dumps.start(DumpSpec(), 0)
    feed(dumps, "source", 0, 5 * RATE)
    dumps.stop()
    status = dumps.status()
    assert not status.active and status.error == "the audio dump has ended: No space left on device"
    assert "the broadcast goes on" in caplog.text
    feed(dumps, "source", 5 * RATE, 6 * RATE)  # is no trouble to whoever sends
    Dumps(tmp_path, ("source",)).start(DumpSpec(), 0)


def test_a_slow_disk_costs_blocks_and_no_time(tmp_path: Path) -> None:
    gate = threading.Event()

    def open_slowly(path: Path) -> IO[bytes]:
        gate.wait(5)
        return path.open("wb")

    dumps = Dumps(tmp_path, ("source",), open_slowly)
    dumps.start(DumpSpec(), 0)
    feed(dumps, "source", 0, 60 * RATE)
    assert dumps.status().dropped_blocks == pytest.approx(600 - 512, abs=1)
    gate.set()
    assert dumps.stop().error is None


def test_what_is_refused_says_why(tmp_path: Path) -> None:
    with pytest.raises(ControlsError, match="no folder"):
        Dumps(None, ("source",)).start(DumpSpec(), 0)
    dumps = Dumps(tmp_path, ("source", "mix.es"))
    with pytest.raises(ControlsError, match="keep_bytes"):
        dumps.start(DumpSpec(seconds=60, keep_bytes=20 << 20), 0)
    dumps.start(DumpSpec(), 0)
    with pytest.raises(ControlsError, match="already"):
        dumps.start(DumpSpec(), 0)
    dumps.stop()
    dumps.start(DumpSpec(), 0)
    dumps.stop()


def test_of_two_who_begin_at_once_one_is_refused(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    class Slow(Dumps):
        @property
        def wanted(self) -> bool:
            found = super().wanted
            with suppress(threading.BrokenBarrierError):
                both.wait(0.3)
            return found

    dumps, before = Slow(tmp_path, ("source",)), set(threading.enumerate())
    with ThreadPoolExecutor(2) as threads:
        begun = [threads.submit(dumps.start, DumpSpec(seconds=1), 0) for _ in range(2)]
    assert [isinstance(each.exception(), ControlsError) for each in begun].count(True) == 1
    with ThreadPoolExecutor(2) as threads:
        ended = [threads.submit(dumps.stop) for _ in range(2)]
    assert [each.result().active for each in ended] == [False, False]
    assert set(threading.enumerate()) <= before
