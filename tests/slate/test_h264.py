"""Between AVC and Annex B."""

from __future__ import annotations

import pytest

from babelcast.slate.h264 import annexb, codec_data

pytestmark = pytest.mark.unit

AVCC = bytes.fromhex("014d400cffe100046742c00c01000468ce3c80")


def test_codec_data_is_found_in_caps_of_either_spelling() -> None:
    assert codec_data(f"video/x-h264, codec_data=(buffer){AVCC.hex()}, width=(int)2") == AVCC
    assert codec_data(f"video/x-h264,codec_data={AVCC.hex()}") == AVCC
    assert codec_data("video/x-h264,stream-format=byte-stream") is None


def test_parameter_sets_come_first_then_every_nal_unit() -> None:
    start = b"\0\0\0\1"
    units = [b"\0\0\0\2\x65\x88\0\0\0\1\x41", b"\0\0\0\1\x41"]
    wanted = start + b"\x67\x42\xc0\x0c" + start + b"\x68\xce\x3c\x80"
    wanted += start + b"\x65\x88" + start + b"\x41" + start + b"\x41"
    assert annexb(AVCC, units) == wanted


@pytest.mark.parametrize("avcc", [b"", AVCC[:9], AVCC[:-1]])
def test_a_cut_record_is_refused(avcc: bytes) -> None:
    with pytest.raises(ValueError):
        annexb(avcc, [])


def test_a_cut_unit_is_refused() -> None:
    with pytest.raises(ValueError):
        annexb(AVCC, [b"\0\0\0\5\x65\x88"])
