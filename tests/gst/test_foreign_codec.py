"""Which FLV tags are kept from flvdemux, and what they are called."""

from __future__ import annotations

import pytest

from babelcast.gst.ingest import _foreign_codec

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("kind", "body", "codec"),
    [
        ("video", b"\x17\x00\x00\x00\x00", None),
        ("video", b"\x27\x01\x00\x00\x00", None),
        ("video", b"\x1c\x00\x00\x00\x00", "H.265 (HEVC)"),
        ("video", b"\x90hvc1", "H.265 (HEVC)"),
        ("video", b"\x90av01", "AV1"),
        ("video", b"\x96\x01hv", "of an unknown kind"),
        ("audio", b"\xaf\x00\x11\x90\x00", None),
        ("audio", b"\x2f", None),
        ("audio", b"\x90Opus", "Opus"),
        ("audio", b"\x90", "of an unknown kind"),
    ],
)
def test_a_foreign_codec_is_named(kind: str, body: bytes, codec: str | None) -> None:
    assert _foreign_codec(kind, body) == codec
