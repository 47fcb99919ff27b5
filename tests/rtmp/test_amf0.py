from __future__ import annotations

import random

import pytest

from babelcast.errors import RtmpError
from babelcast.rtmp import amf0

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "value",
    [
        0.0,
        -1.5,
        True,
        False,
        "",
        "ünïcode",
        "x" * 70_000,
        None,
        {},
        {"a": 1.0, "b": {"c": [1.0, "two", None, True]}},
        [],
        [[1.0], {"k": "v"}],
        amf0.EcmaArray(width=1920.0, encoder="x"),
    ],
)
def test_values_survive_a_round_trip(value: amf0.Value) -> None:
    (back,) = amf0.decode(amf0.encode(value))
    assert back == value
    assert isinstance(back, amf0.EcmaArray) == isinstance(value, amf0.EcmaArray)


def test_several_values_follow_one_another() -> None:
    assert amf0.decode(amf0.encode("connect", 1, {"app": "live"}, None)) == ["connect", 1.0, {"app": "live"}, None]


def test_ecma_array_with_a_wrong_count_is_read_to_its_end_marker() -> None:
    data = bytearray(amf0.encode(amf0.EcmaArray(a=1.0, b=2.0)))
    data[1:5] = bytes(4)
    assert amf0.decode(bytes(data)) == [{"a": 1.0, "b": 2.0}]


def test_date_typed_object_and_undefined() -> None:
    date = b"\x0b" + amf0.encode(1000.0)[1:] + b"\0\0"
    typed = b"\x10\0\x01C" + amf0.encode({"a": True})[1:]
    assert amf0.decode(date + typed + b"\x06") == [1000.0, {"a": True}, None]


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00",
        b"\x02\x00\x05abc",
        b"\x03\x00\x01a",
        b"\x0c\xff\xff\xff\xffx",
        b"\x0a\xff\xff\xff\xff",
        b"\x07\x00\x01",
        b"\x42",
        b"\x03\x00\x01a" * 100,
        b"\x0a\x00\x00\x00\x01" * 100,
        amf0.encode(*[1.0] * (amf0.MAX_VALUES + 1)),
    ],
)
def test_what_is_not_amf0_or_too_large_is_an_rtmp_error(data: bytes) -> None:
    with pytest.raises(RtmpError):
        amf0.decode(data)


def test_random_bytes_raise_nothing_but_rtmp_error() -> None:
    source = random.Random(1)
    valid = amf0.encode("onMetaData", amf0.EcmaArray(a=1.0, b="text", c={"d": [1.0, 2.0]}))
    for _ in range(3_000):
        data = bytearray(valid if source.random() < 0.5 else source.randbytes(source.randrange(60)))
        for _ in range(source.randrange(4)):
            if data:
                data[source.randrange(len(data))] = source.randrange(256)
        try:
            amf0.decode(bytes(data))
        except RtmpError:
            pass
