"""What the rest of the program asks of a media server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

ReadProtocol = Literal["rtmp", "rtsp", "srt"]


@dataclass(frozen=True, slots=True)
class PathInfo:
    """A path that the media server knows. ``tracks`` are codec names as MediaMTX spells them
    (``H264``, ``MPEG-4 Audio``, ``Opus``)."""

    name: str
    online: bool
    source_type: str | None
    source_id: str | None
    tracks: tuple[str, ...]
    readers: int
    bytes_in: int
    bytes_out: int


class MediaServer(Protocol):
    """Implemented by mediamtx.MediaMtx and relay.RelayClient; both speak the ``/v3`` API over HTTP.

    Methods raise MediaServerError (retryable) when the server does not answer within 2 s: an empty list is
    never guessed.
    """

    @property
    def name(self) -> str:
        """``mediamtx`` or ``relay``."""
        ...

    async def list_paths(self) -> list[PathInfo]: ...

    async def get_path(self, path: str) -> PathInfo | None: ...

    def publish_url(self, path: str) -> str:
        """Where our own processes push ``path`` (RTMP)."""
        ...

    def read_url(self, path: str, protocol: ReadProtocol = "rtmp") -> str:
        """Where our own processes pull ``path``. Raises MediaServerError for a protocol that the server has not."""
        ...

    async def aclose(self) -> None: ...
