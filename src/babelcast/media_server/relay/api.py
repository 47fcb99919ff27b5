"""The relay's HTTP API: MediaMTX's ``/v3/paths``, ``/healthz`` and ``/metrics``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from aiohttp import web
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from babelcast.media_server.relay.paths import SOURCE_TYPE, Path, Paths
from babelcast.media_server.relay.tracks import Track

_CONF_NAME = "all_others"  # what MediaMTX calls the rule for paths that no rule names
_MAX_NUMBER = 2**31 - 1


def build_app(paths: Paths) -> web.Application:
    app = web.Application()
    registry = CollectorRegistry()
    registry.register(_Collector(paths))

    async def list_paths(request: web.Request) -> web.Response:
        try:
            per_page = _number(request, "itemsPerPage", 100)
            page = _number(request, "page", 0)
        except ValueError as error:
            return _error(400, str(error))
        if per_page == 0:
            return _error(400, "invalid items per page")
        found = paths.ready()
        items = [describe(path) for path in found[page * per_page : (page + 1) * per_page]]
        return web.json_response({"itemCount": len(found), "pageCount": -(-len(found) // per_page), "items": items})

    async def get_path(request: web.Request) -> web.Response:
        path = paths.get(request.match_info["name"])
        return _error(404, "path not found") if path is None else web.json_response(describe(path))

    async def healthz(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/v3/paths/list", list_paths)
    app.router.add_get("/v3/paths/get/{name:.+}", get_path)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/metrics", metrics)
    return app


def describe(path: Path) -> dict[str, Any]:
    """``path`` with MediaMTX's field names, those of 1.19 and later and the deprecated ones before them."""
    tracks = path.stream.tracks
    since = _rfc3339(path.ready_since)
    return {
        "name": path.name,
        "confName": _CONF_NAME,
        "ready": True,
        "readyTime": since,
        "available": True,
        "availableTime": since,
        "online": True,
        "onlineTime": since,
        "source": {"type": SOURCE_TYPE, "id": path.publisher.id},
        "tracks": [track.codec for track in tracks],
        "tracks2": [_track(track) for track in tracks],
        "readers": [{"type": SOURCE_TYPE, "id": reader.id} for reader in path.readers],
        "inboundBytes": path.stream.bytes_in,
        "outboundBytes": path.bytes_out,
        "inboundFramesInError": 0,
        "bytesReceived": path.stream.bytes_in,
        "bytesSent": path.bytes_out,
    }


def _track(track: Track) -> Mapping[str, Any]:
    return {"codec": track.codec, "codecProps": track.props}


def _rfc3339(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment is not None else None


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > _MAX_NUMBER:
        raise ValueError(f"{name} is not a number")
    return int(text)


def _error(status: int, reason: str) -> web.Response:
    return web.json_response({"status": "error", "error": reason}, status=status)


class _Collector(Collector):
    """MediaMTX's names where it has them; ``rtmp_conns_outbound_skips`` is ours."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        found = [(describe(path), {"name": path.name, "state": "ready"}) for path in self._paths.ready()]
        yield _metric("paths", "Paths that are ready", ((labels, 1) for _, labels in found))
        yield _metric("paths_readers", "Readers of a path", ((labels, len(p["readers"])) for p, labels in found))
        yield _metric("paths_inbound_bytes", "Media received", ((labels, p["inboundBytes"]) for p, labels in found))
        yield _metric("paths_outbound_bytes", "Media sent", ((labels, p["outboundBytes"]) for p, labels in found))
        conns = [
            (
                conn,
                {
                    "id": conn.id,
                    "path": conn.path.name if conn.path is not None else "",
                    "remoteAddr": conn.remote,
                    "state": conn.role,
                },
            )
            for conn in self._paths.connections
        ]
        yield _metric("rtmp_conns", "RTMP connections", ((labels, 1) for _, labels in conns))
        yield _metric("rtmp_conns_inbound_bytes", "Received", ((labels, c.bytes_received) for c, labels in conns))
        yield _metric("rtmp_conns_outbound_bytes", "Sent", ((labels, c.bytes_sent) for c, labels in conns))
        yield _metric(
            "rtmp_conns_outbound_frames_discarded",
            "Messages that a slow reader did not get",
            ((labels, c.queue.dropped) for c, labels in conns),
        )
        yield _metric(
            "rtmp_conns_outbound_skips",
            "Times that a slow reader was moved on to a key frame",
            ((labels, c.queue.skips) for c, labels in conns),
        )


def _metric(name: str, text: str, samples: Iterable[tuple[dict[str, str], float]]) -> Metric:
    metric = Metric(name, text, "untyped")
    for labels, value in samples:
        metric.add_sample(name, labels, value)
    return metric
