"""RTMP bodies as pictures, B-frames found out, samples counted."""

from __future__ import annotations

import pytest

from babelcast.preview.media import Picture, PictureReader, Reordering, SampleClock

pytestmark = pytest.mark.unit

_SPS, _PPS, _IDR, _P = b"\x67sps", b"\x68pps", b"\x65idr", b"\x41p"
_START = b"\0\0\0\1"


def record(length_size: int = 4) -> bytes:
    sets = bytes([0xE1]) + len(_SPS).to_bytes(2, "big") + _SPS + bytes([1]) + len(_PPS).to_bytes(2, "big") + _PPS
    return bytes([1, 100, 0, 31, 0xFC | (length_size - 1)]) + sets


def body(*units: bytes, key: bool = False, shift: int = 0, length_size: int = 4) -> bytes:
    head = bytes([0x17 if key else 0x27, 1]) + shift.to_bytes(3, "big", signed=True)
    return head + b"".join(len(unit).to_bytes(length_size, "big") + unit for unit in units)


def _reader(length_size: int = 4) -> PictureReader:
    reader = PictureReader()
    reader.configure(record(length_size))
    return reader


@pytest.mark.parametrize("length_size", [1, 2, 4])
def test_a_key_picture_begins_with_the_parameter_sets(length_size: int) -> None:
    picture = _reader(length_size).read(body(_IDR, key=True, length_size=length_size), 40)
    assert picture == Picture(_START + _SPS + _START + _PPS + _START + _IDR, 40, key=True)


def test_parameter_sets_that_come_in_band_are_not_doubled() -> None:
    picture = _reader().read(body(_SPS, _PPS, _IDR, key=True), 0)
    assert picture is not None
    assert picture.data.count(_SPS) == 1


def test_delimiters_and_filler_are_left_out_and_times_are_shifted() -> None:
    picture = _reader().read(body(b"\x09\xf0", _P, b"\x0c" + b"\xff" * 50, shift=-20), 100)
    assert picture == Picture(_START + _P, 80, key=False, shift_ms=-20)


@pytest.mark.parametrize(
    "tag",
    [b"", b"\x17\x01\0\0\0", b"\x17\x01\0\0\0\0\0\0", b"\x17\x02\0\0\0\0\0\0\0", body(b"\x09\xf0"), body(_IDR)[:-2]],
    ids=["empty", "no units", "half a length", "end of sequence", "delimiter alone", "cut short"],
)
def test_what_holds_no_picture_gives_none(tag: bytes) -> None:
    assert _reader().read(tag, 0) is None


def test_nothing_is_shown_before_the_parameter_sets() -> None:
    assert PictureReader().read(body(_IDR, key=True), 0) is None


@pytest.mark.parametrize("cut", range(12))
def test_a_record_that_is_cut_short_breaks_nothing(cut: int) -> None:
    reader = PictureReader()
    reader.configure(record()[:cut])
    assert reader.read(body(_IDR, key=True), 0) is None


def _found(*pictures: tuple[int, int, bool]) -> list[bool | None]:
    reordering = Reordering()
    return [reordering.add(Picture(b"", pts, key, shift)) for pts, shift, key in pictures]


def test_without_a_shift_the_first_picture_tells() -> None:
    assert _found((0, 0, True), (40, 0, False)) == [False, False]


def test_b_frames_are_found_at_the_third_picture() -> None:
    # I P B b, as x264 sends them with -bf 2
    assert _found((80, 80, True), (200, 160, False), (120, 40, False)) == [None, None, True]


def test_a_constant_shift_is_no_reordering() -> None:
    assert _found(*((80 + 40 * n, 80, n == 0) for n in range(5)))[-1] is False


def test_b_frames_that_begin_later_are_found_too() -> None:
    assert _found((0, 0, True), (40, 0, False), (160, 80, False), (120, 0, False))[-1] is True


def test_a_jump_of_the_source_clock_at_a_key_picture_is_no_reordering() -> None:
    assert _found((9_000, 0, True), (9_040, 0, False), (0, 0, True), (40, 0, False))[-1] is False


def test_milliseconds_that_are_rounded_leave_no_gap() -> None:
    clock = SampleClock()
    # 1024 samples at 48 kHz are 21.33 ms: 0, 21, 42, 64, … in FLV
    stamps = [clock.stamp(ms * 48, 1024) for ms in (0, 21, 42, 64, 85)]
    assert stamps == [0, 1024, 2048, 3072, 4096]


def test_a_gap_of_the_source_is_followed() -> None:
    clock = SampleClock()
    assert [clock.stamp(0, 960), clock.stamp(48_000, 960), clock.stamp(48_960, 960)] == [0, 48_000, 48_960]
