"""Surround to stereo by ITU-R BS.775-3, Annex 4: fronts as they are, centre and surrounds 3 dB down, no LFE.

GStreamer's own matrix keeps the LFE and divides by the sum of a row, which makes a 5.1 programme 11 dB quieter.
Here nothing is divided: the sum may pass full scale (by 7.7 dB if all channels are full and alike), so a soft-knee
limiter follows, which leaves everything below -6 dBFS alone and never lets full scale be reached.
"""

from __future__ import annotations

import re
from typing import Any

from babelcast.gst.runtime import Gst

_MINUS_3_DB = 0.7071
# Bit of the channel mask (GstAudioChannelPosition) -> (left, right).
_PLACES: dict[int, tuple[float, float]] = {
    0: (1.0, 0.0),  # front left
    1: (0.0, 1.0),
    2: (_MINUS_3_DB, _MINUS_3_DB),  # front centre
    3: (0.0, 0.0),  # LFE
    4: (_MINUS_3_DB, 0.0),  # rear left
    5: (0.0, _MINUS_3_DB),
    6: (1.0, 0.0),  # front left of centre
    7: (0.0, 1.0),
    8: (0.5, 0.5),  # rear centre: a surround for both sides
    9: (0.0, 0.0),  # second LFE
    10: (_MINUS_3_DB, 0.0),  # side left
    11: (0.0, _MINUS_3_DB),
    24: (1.0, 0.0),  # wide left
    25: (0.0, 1.0),
    26: (_MINUS_3_DB, 0.0),  # surround left
    27: (0.0, _MINUS_3_DB),
}
_ELSEWHERE = (0.5, 0.5)
_MASK = re.compile(r"channel-mask=\(bitmask\)0x([0-9a-f]+)")


def stereo_matrix(channels: int, mask: int) -> list[list[float]]:
    """Two rows (left, right) of ``channels`` coefficients; empty for mono and stereo, which need none.

    Channels whose places aren't known (``mask`` 0, or not of as many channels): the first two are taken for a pair.
    """
    if channels <= 2:
        return []
    bits = [bit for bit in range(64) if mask >> bit & 1]
    if len(bits) != channels:
        return [[float(column == row) for column in range(channels)] for row in (0, 1)]
    places = [_PLACES.get(bit, _ELSEWHERE) for bit in bits]
    return [[place[row] for place in places] for row in (0, 1)]


def follow_channels(branch: Any) -> None:
    """Have the audioconvert ``downmix`` of a bin mix down whatever comes into it, and its rglimiter ``limiter`` work
    where the sum can pass full scale."""
    branch.get_by_name("downmix").get_static_pad("sink").add_probe(Gst.PadProbeType.EVENT_DOWNSTREAM, _look)


def _look(pad: Any, info: Any) -> Any:
    """On a streaming thread, for events alone, which are few. Holds no element: one that it held would never go."""
    event = info.get_event()
    if event.type == Gst.EventType.CAPS:
        structure = event.parse_caps().get_structure(0)
        _, channels = structure.get_int("channels")
        found = _MASK.search(structure.to_string())
        matrix = stereo_matrix(channels, int(found[1], 16) if found else 0)
        rows = ", ".join(f"<{', '.join(f'(float){value}' for value in row)}>" for row in matrix)
        convert = pad.get_parent_element()
        Gst.util_set_object_arg(convert, "mix-matrix", f"<{rows}>")
        convert.get_parent().get_by_name("limiter").set_property("enabled", bool(matrix))
    return Gst.PadProbeReturn.OK
