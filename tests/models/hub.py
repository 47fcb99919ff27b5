"""A model hub on loopback: files with ranges and ETags, and the ways a transfer can go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Hub:
    """``break_after``: bytes of the body before the connection is cut, one number a request; then whole answers.
    ``statuses``: answered in order before anything else. ``ranges``: whether it resumes."""

    files: dict[str, bytes] = field(default_factory=dict)
    break_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    requests: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path, request.headers.get("Range", "")))
        if self.statuses:
            return web.Response(status=self.statuses.pop(0))
        body = self.files.get(request.path)
        if body is None:
            return web.Response(status=404)
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        start, status, headers = 0, 200, {"ETag": tag}
        wanted = request.headers.get("Range", "").removeprefix("bytes=").removesuffix("-")
        if self.ranges and wanted and request.headers.get("If-Range", tag) == tag:
            start, status = int(wanted), 206
            if start >= len(body):
                return web.Response(status=416, headers={"Content-Range": f"bytes */{len(body)}"})
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = len(body) - start
        await response.prepare(request)
        if self.break_after:
            await response.write(body[start : start + self.break_after.pop(0)])
            await asyncio.sleep(0)
            assert request.transport
            request.transport.close()
            return response
        await response.write(body[start:])
        await response.write_eof()
        return response


@contextlib.asynccontextmanager
async def hub() -> AsyncIterator[Hub]:
    served = Hub()
    app = web.Application()
    app.router.add_get("/{path:.*}", served.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield served
    finally:
        await runner.cleanup()
