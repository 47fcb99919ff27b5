"""Which paths the orchestrator can show, and where they are played."""

from __future__ import annotations

from babelcast.errors import PreviewError
from babelcast.media_server.base import MediaServer, PathInfo
from babelcast.media_server.mediamtx import MediaMtx
from babelcast.orchestrator.bridge import BridgeClient
from babelcast.preview.routes import Found
from babelcast.spec import is_output_path, stream_id_of_ingest_path

BRIDGE = "bridge"
_BROWSER_CODECS = frozenset({"H264", "VP8", "VP9", "AV1", "Opus", "G711", "G722"})


class ServerPaths:
    """Implements routes.Paths: the media server's paths, and ``bridge``, where there is one."""

    def __init__(self, server: MediaServer, bridge: BridgeClient | None = None) -> None:
        self._server = server
        self._bridge = bridge

    async def find(self, path: str) -> Found | None:
        if path == BRIDGE:
            return await self._feed()
        if stream_id_of_ingest_path(path) is None and not is_output_path(path):
            return None
        info = await self._server.get_path(path)
        if info is None or not info.online:
            return Found(None)
        return Found(self._server.read_url(path, "rtmp"), self._whep_url(path, info))

    async def _feed(self) -> Found:
        if self._bridge is None:
            raise PreviewError("there is no bridge here", 404, hint="see bridge.env_file and bridge.api of the config")
        if not self._bridge.is_local:
            raise PreviewError("the bridge runs on another machine", 404, hint="its own API has its preview: /preview")
        status = (await self._bridge.view()).status
        return Found(None if status.state in ("stopped", "failed", "waiting") else status.feed_url)

    def _whep_url(self, path: str, info: PathInfo) -> str | None:
        """Where MediaMTX sends the path to browsers as it is: what came by WebRTC. Anything else may have B-frames,
        which its list of tracks does not tell and its WHEP refuses, or AAC, which it leaves out."""
        if not isinstance(self._server, MediaMtx) or self._server.ports.webrtc is None:
            return None
        if not (info.source_type or "").lower().startswith("webrtc") or not set(info.tracks) <= _BROWSER_CODECS:
            return None
        return self._server.whep_url(path)
