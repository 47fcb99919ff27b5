"""A test tone, pushed into an audio endpoint as any producer pushes its sound."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import numpy as np

from babelcast.audio.pcm import from_db, to_s16le
from babelcast.errors import BabelcastError, ConfigError, why
from babelcast.telemetry.redact import redact
from babelcast.units import RATE

CONTENT_TYPE = f"audio/L16;rate={RATE};channels=1"
_BLOCK = RATE // 50
_FADE = RATE // 100


def ingest_url(text: str) -> str:
    """``text`` with ``/ingest`` where it names a host alone. Raises ConfigError."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("the audio endpoint's address begins with http:// or https://", key="URL")
    return urlunsplit(parts._replace(path=parts.path if parts.path.strip("/") else "/ingest"))


async def tone(frequency: float, level_db: float, seconds: float | None) -> AsyncIterator[bytes]:
    """S16BE mono at 48 kHz, at the speed of life; faded at both ends."""
    total = None if seconds is None else round(seconds * RATE)
    begun, sent = time.monotonic(), 0
    while total is None or sent < total:
        at = np.arange(sent, min(sent + _BLOCK, total or sent + _BLOCK), dtype=np.float64)
        gain = np.minimum(1.0, at / _FADE)
        if total is not None:
            gain = np.minimum(gain, (total - at) / _FADE)
        block = from_db(level_db) * gain * np.sin(2 * np.pi * frequency * at / RATE)
        yield np.frombuffer(to_s16le(block.astype(np.float32)), "<i2").astype(">i2").tobytes()
        sent += len(at)
        await asyncio.sleep(max(0.0, begun + sent / RATE - time.monotonic()))


async def send_tone(
    url: str, token: str | None, *, frequency: float = 440.0, level_db: float = -18.0, seconds: float | None = None
) -> None:
    """Until ``seconds`` are over, or for ever. Raises BabelcastError, which says what the endpoint said."""
    headers = {"Content-Type": CONTENT_TYPE} | ({"Authorization": f"Bearer {token}"} if token else {})
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            body = tone(frequency, level_db, seconds)
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise _said(answer.status, await answer.read())
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise BabelcastError(
            f"the audio endpoint at {redact(url)} is gone or does not answer: {why(error)}",
            hint="start it with `babelcast audio`",
        ) from error


def _said(status: int, data: bytes) -> BabelcastError:
    try:
        detail = str(json.loads(data)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = "it is no audio endpoint"
    hint = "give --token, or set AUDIO_TOKEN" if status == 401 else None
    return BabelcastError(f"the audio endpoint answered {status}: {detail}", hint=hint)
