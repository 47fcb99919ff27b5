"""The relay as the rest of the program sees it."""

from __future__ import annotations

from babelcast.errors import MediaServerError
from babelcast.media_server.base import ReadProtocol
from babelcast.media_server.v3 import TIMEOUT_S, V3Client


class RelayClient(V3Client):
    """Implements MediaServer over the relay's HTTP API. ``rtmp_url`` is ``rtmp://host:port``."""

    def __init__(self, api_url: str, rtmp_url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(api_url, timeout_s=timeout_s)
        self._rtmp_url = rtmp_url.rstrip("/")

    @property
    def name(self) -> str:
        return "relay"

    def publish_url(self, path: str) -> str:
        return f"{self._rtmp_url}/{path}"

    def read_url(self, path: str, protocol: ReadProtocol = "rtmp") -> str:
        if protocol != "rtmp":
            raise MediaServerError(
                f"the embedded relay has no {protocol.upper()}", hint="use rtmp, or MediaMTX", retryable=False
            )
        return f"{self._rtmp_url}/{path}"
