"""Access units out of an FLV file and back into it, nothing else changed."""

from __future__ import annotations

from pathlib import Path

from babelcast.units import NS_PER_MS, AccessUnit


class FlvVideo:
    """``units`` in decoding order, as the worker has them."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        self._head, position = data[:13], 13
        self._tags: list[bytes] = []
        self._places: list[int] = []
        self.units: list[AccessUnit] = []
        caps = ""
        while position + 11 <= len(data):
            end = position + 11 + int.from_bytes(data[position + 1 : position + 4], "big")
            tag = data[position:end]
            if tag[0] == 9 and tag[12] == 0:
                caps = f"video/x-h264, stream-format=(string)avc, codec_data=(buffer){tag[16:].hex()}"
            if tag[0] == 9 and tag[12] == 1:
                dts = int.from_bytes(tag[7:8] + tag[4:7], "big")
                pts = dts + int.from_bytes(tag[13:16], "big", signed=True)
                self._places.append(len(self._tags))
                unit = AccessUnit(pts * NS_PER_MS, dts * NS_PER_MS, tag[11] >> 4 == 1, tag[16:], caps)
                self.units.append(unit)
            self._tags.append(tag)
            position = end + 4

    def write(self, path: Path, units: list[AccessUnit]) -> None:
        tags = list(self._tags)
        for place, unit in zip(self._places, units, strict=True):
            body = tags[place][11:16] + unit.data
            tags[place] = tags[place][:1] + len(body).to_bytes(3, "big") + tags[place][4:11] + body
        with path.open("wb") as file:
            file.write(self._head)
            for tag in tags:
                file.write(tag + len(tag).to_bytes(4, "big"))
