"""Which paths the orchestrator can show, and where they are played."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from babelcast.bridge.status import playable
from babelcast.errors import BabelcastError, PreviewError
from babelcast.media_server.base import MediaServer, PathInfo
from babelcast.media_server.mediamtx import MediaMtx
from babelcast.orchestrator.bridge import BridgeClient
from babelcast.preview.process import PreviewProcess
from babelcast.preview.routes import Found
from babelcast.spec import is_output_path, stream_id_of_ingest_path

log = logging.getLogger(__name__)

BRIDGE = "bridge"
_BROWSER_CODECS = frozenset({"H264", "VP8", "VP9", "AV1", "Opus", "G711", "G722"})
_READY_S = 3.0
_AFTER_A_START_S = 10.0
"""A worker that has just started needs the processor more, and so does the spare one after it. Where nothing is on air
at two looks, nobody does."""


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

    @contextlib.asynccontextmanager
    async def kept_ready(self, process: PreviewProcess, *, playing: bool) -> AsyncIterator[None]:
        """Inside, the preview process is there before somebody wants to see something, which is when loading it would
        be waited for. ``playing``: every path that is published, and that we would show, is also played all the time.
        """
        task = asyncio.create_task(self._keep_ready(process, playing), name="previews kept ready")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _keep_ready(self, process: PreviewProcess, playing: bool) -> None:
        idle = False
        while True:
            try:
                online = [info for info in await self._server.list_paths() if info.online]
                if not playing and (online or idle):
                    await asyncio.sleep(_AFTER_A_START_S if online else 0)
                    return process.warm()
                idle = not online
                for info in online:
                    found = await self.find(info.name)
                    if found is not None and found.url is not None and found.whep_url is None:
                        await process.watch(info.name, found.url)
            except BabelcastError as error:
                log.debug("previews are not kept ready: %s", error)
            await asyncio.sleep(_READY_S)

    async def _feed(self) -> Found:
        if self._bridge is None:
            raise PreviewError("there is no bridge here", 404, hint="see bridge.env_file and bridge.api of the config")
        if not self._bridge.is_local:
            raise PreviewError("the bridge runs on another machine", 404, hint="its own API has its preview: /preview")
        return Found(playable((await self._bridge.view()).status))

    def _whep_url(self, path: str, info: PathInfo) -> str | None:
        """Where MediaMTX sends the path to browsers as it is: what came by WebRTC. Anything else may have B-frames,
        which its list of tracks does not tell and its WHEP refuses, or AAC, which it leaves out."""
        if not isinstance(self._server, MediaMtx) or self._server.ports.webrtc is None:
            return None
        if not (info.source_type or "").lower().startswith("webrtc") or not set(info.tracks) <= _BROWSER_CODECS:
            return None
        return self._server.whep_url(path)
