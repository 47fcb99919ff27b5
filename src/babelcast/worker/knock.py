"""Asking for a stream before GStreamer does.

GStreamer 1.22's ``rtmp2src`` now and then loses a socket and an event descriptor when a play is refused: of 41 refused
plays, 10 of each stayed open for ever. A source that is away is asked for every two seconds, so an evening of breaks
would cost a worker its descriptors (seen in `make soak`). Our own client asks instead, until the stream is there.
"""

from __future__ import annotations

from babelcast.errors import RtmpError
from babelcast.rtmp.client import RtmpClient

_TIMEOUT_S = 5.0


async def why_absent(url: str) -> str | None:
    """Why a stream that is read by RTMP can't be had now; None where it can, and where only trying will tell."""
    if not url.startswith(("rtmp://", "rtmps://")):
        return None
    try:
        async with RtmpClient.connect(url, timeout_s=_TIMEOUT_S) as client:
            await client.play()
    except RtmpError as error:
        return str(error) if error.retryable else None
    return None
