"""A media server without media: paths come and go as the test says, and its API can fail."""

from __future__ import annotations

from babelcast.errors import MediaServerError
from babelcast.media_server.base import PathInfo, ReadProtocol


def path_info(name: str, *, online: bool = True, tracks: tuple[str, ...] = ("H264", "MPEG-4 Audio")) -> PathInfo:
    return PathInfo(name, online, "rtmpConn", "1", tracks, readers=0, bytes_in=0, bytes_out=0)


class FakeMediaServer:
    """Implements MediaServer. ``down`` makes its API fail; it reads by RTMP and what ``also`` names."""

    def __init__(self, *, also: tuple[ReadProtocol, ...] = ("rtsp", "srt")) -> None:
        self.paths: dict[str, PathInfo] = {}
        self.down = False
        self.listed = 0
        self._protocols = ("rtmp", *also)

    @property
    def name(self) -> str:
        return "fake"

    def publish(self, stream_id: str, *, tracks: tuple[str, ...] = ("H264", "MPEG-4 Audio")) -> None:
        name = f"live/{stream_id}/in"
        self.paths[name] = path_info(name, tracks=tracks)

    def unpublish(self, stream_id: str) -> None:
        del self.paths[f"live/{stream_id}/in"]

    async def list_paths(self) -> list[PathInfo]:
        self.listed += 1
        if self.down:
            raise MediaServerError("the media server's API did not answer within 2 s")
        return list(self.paths.values())

    async def get_path(self, path: str) -> PathInfo | None:
        return {info.name: info for info in await self.list_paths()}.get(path)

    def publish_url(self, path: str) -> str:
        return f"rtmp://127.0.0.1:1935/{path}"

    def read_url(self, path: str, protocol: ReadProtocol = "rtmp") -> str:
        if protocol not in self._protocols:
            raise MediaServerError(f"the fake has no {protocol.upper()}")
        ports = {"rtmp": "1935/", "rtsp": "8554/", "srt": "8890?streamid=read:"}
        return f"{protocol}://127.0.0.1:{ports[protocol]}{path}"

    async def aclose(self) -> None:
        pass
