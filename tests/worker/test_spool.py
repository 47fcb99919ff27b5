"""What a worker leaves to the next one: written, cut off anywhere, read again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from babelcast.units import NS_PER_MS, NS_PER_S, AccessUnit, ns_to_samples
from babelcast.worker.spool import Spool, Spooled, read_spool, spool_folder

pytestmark = pytest.mark.unit

EPOCH = 1_000 * NS_PER_S
PICTURE = 40 * NS_PER_MS
BLOCK = bytes(480 * 4)


def unit(number: int, *, gop: int = 25, caps: str = "caps") -> AccessUnit:
    time = number * PICTURE
    return AccessUnit(time + PICTURE, time, number % gop == 0, number.to_bytes(4, "big") * 50, caps)


def write(spool: Spool, first: int, last: int, delay_s: float = 6.0) -> None:
    """Pictures with their sound, flushed as often as a worker does."""
    for number in range(first, last):
        spool.video(unit(number))
        for part in range(4):
            spool.audio(ns_to_samples(number * PICTURE) + part * 480, BLOCK)
        spool.flush(EPOCH, round(delay_s * NS_PER_S))


def test_the_next_worker_finds_all_that_is_needed_and_not_much_more(tmp_path: Path) -> None:
    write(Spool(tmp_path / "spool"), 0, 1_000)
    now = EPOCH + 1_000 * PICTURE + 2 * NS_PER_S
    found = Spool(tmp_path / "spool").read(now)
    assert found is not None
    assert (found.epoch_ns, found.end_ns) == (EPOCH, 1_000 * PICTURE)
    assert found.video == [unit(number) for number in range(found.video[0].dts_ns // PICTURE, 1_000)]
    kept_s = (found.end_ns - found.video[0].dts_ns) / NS_PER_S
    assert found.video[0].key and 10 <= kept_s <= 11.1
    assert len(found.audio) == 4 * len(found.video)
    assert list((tmp_path).rglob("*.spool")) == [], "it is read once"


def test_playing_begins_at_the_key_frame_before_what_is_due(tmp_path: Path) -> None:
    write(Spool(tmp_path), 0, 250)
    found = read_spool(tmp_path, EPOCH + 11 * NS_PER_S)
    assert found is not None
    assert found.start_ns(round(5.4 * NS_PER_S)) == 5 * NS_PER_S
    assert found.start_ns(5 * NS_PER_S) == 5 * NS_PER_S
    assert found.start_ns(10 * NS_PER_S) is None, "nothing is left that is due"


def test_the_end_of_the_sound_is_given_as_far_as_it_has_no_gap(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.audio(0, b"a" * 1_920)
    for number in range(2, 5):
        spool.audio(number * 480, bytes([number]) * 1_920)
    spool.flush(EPOCH, 6 * NS_PER_S)
    found = read_spool(tmp_path, EPOCH)
    assert found is not None
    assert found.tail(500) == bytes([3]) * 80 + bytes([4]) * 1_920
    assert len(found.tail(9_600)) == 3 * 1_920
    assert Spooled(EPOCH).tail(10) == b""


def test_sound_alone_is_kept_as_well(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for number in range(6_000):
        spool.audio(number * 480, BLOCK)
        if number % 5 == 0:
            spool.flush(EPOCH, 6 * NS_PER_S)
    spool.flush(EPOCH, 6 * NS_PER_S)
    found = read_spool(tmp_path, EPOCH + 60 * NS_PER_S)
    assert found is not None and not found.video
    assert found.audio[-1][0] == 5_999 * 480
    assert 10 <= len(found.audio) / 100 <= 12.1
    assert found.start_ns(55 * NS_PER_S) == 55 * NS_PER_S


def test_a_file_that_was_cut_off_anywhere_gives_what_is_whole(tmp_path: Path) -> None:
    write(Spool(tmp_path), 0, 40)
    last = sorted(tmp_path.glob("*.spool"))[-1]
    whole = last.read_bytes()
    for length in range(0, len(whole), 97):
        last.write_bytes(whole[:length])
        found = read_spool(tmp_path, EPOCH + 2 * NS_PER_S)
        assert found is not None
        assert found.video == [unit(number) for number in range(len(found.video))]
        assert 25 <= len(found.video) <= 40


def test_what_is_old_or_of_another_boot_is_nothing(tmp_path: Path) -> None:
    write(Spool(tmp_path), 0, 40)
    assert read_spool(tmp_path, EPOCH + 20 * NS_PER_S) is None
    assert read_spool(tmp_path, EPOCH - NS_PER_S) is None
    for file in tmp_path.glob("*.spool"):
        data = bytearray(file.read_bytes())
        data[8] ^= 1
        file.write_bytes(data)
    assert read_spool(tmp_path, EPOCH + 2 * NS_PER_S) is None
    assert read_spool(tmp_path / "nothing", EPOCH) is None


def test_a_source_that_runs_ahead_of_its_own_anchor_is_gone_on_with(tmp_path: Path) -> None:
    """As one does whose first units came late: its end is yet to come when the next worker is there at once."""
    write(Spool(tmp_path), 0, 250)
    found = read_spool(tmp_path, EPOCH + 10 * NS_PER_S - 40 * NS_PER_MS)
    assert found is not None and found.end_ns == 10 * NS_PER_S
    assert read_spool(tmp_path, EPOCH) is None, "ten seconds ahead is another clock"


def test_a_worker_that_ends_as_asked_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    write(spool, 0, 40)
    spool.close()
    assert not (tmp_path / "spool").exists()


def test_a_full_disk_is_said_once_and_costs_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    spool = Spool(tmp_path / "file" / "spool")
    write(spool, 0, 100)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_what_nobody_will_read_any_more_is_removed(tmp_path: Path) -> None:
    for name in ("left", "alive", "mine"):
        write(Spool(tmp_path / name), 0, 40)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("not ours")
    for file in (
        *(tmp_path / "left").iterdir(),
        tmp_path / "left",
        *(tmp_path / "other").iterdir(),
        tmp_path / "other",
    ):
        os.utime(file, (time.time() - 90,) * 2)
    Spool(tmp_path / "mine").read(EPOCH)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alive", "other"]


def test_all_generations_of_a_stream_share_a_folder() -> None:
    one, two = (spool_folder(Path(f"/state/workers/show/{generation}")) for generation in (1, 2))
    assert one == two != spool_folder(Path("/state/workers/other/1"))
