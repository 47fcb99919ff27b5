"""What our clients of HTTP services share."""

from __future__ import annotations

import aiohttp

_PROBE = aiohttp.ClientTimeout(total=1.0)


async def read_at_most(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """The whole body; of a longer one the first ``most_bytes``. (``content.read(n)`` alone gives what has arrived.)"""
    data = bytearray()
    while len(data) < most_bytes and (block := await response.content.read(most_bytes - len(data))):
        data += block
    return bytes(data)


async def answers(url: str) -> bool:
    """Whether ``url`` is answered with 200 within a second."""
    try:
        async with aiohttp.ClientSession(timeout=_PROBE) as session, session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False
