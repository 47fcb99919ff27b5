"""From what the media server lists and what the config says to the workers that should run. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from babelcast.config import Config
from babelcast.errors import MediaServerError
from babelcast.media_server.base import MediaServer, PathInfo, ReadProtocol
from babelcast.spec import (
    BackendKind,
    BackendSpec,
    Controls,
    TargetSpec,
    WorkerSpec,
    output_path,
    stream_id_of_ingest_path,
)
from babelcast.units import NS_PER_S

_RTMP_TRACKS = frozenset({"H264", "MPEG-4 Audio", "MPEG-1/2 Audio", "G711"})
_SRT_TRACKS = _RTMP_TRACKS - {"G711"} | {"H265", "Opus", "AC3"}
_CARRIERS: tuple[tuple[ReadProtocol, frozenset[str]], ...] = (("rtmp", _RTMP_TRACKS), ("srt", _SRT_TRACKS))
"""In the order of preference, with the tracks that the worker can read by them, as MediaMTX spells them. Both carry
one clock for all tracks. RTSP carries every track, but each with a clock of its own, and MediaMTX tells their
distance by when a track's first packet came: sound was up to 330 ms off (with B-frames), so it comes last.
"""

_RTMP: ReadProtocol = "rtmp"
_RTSP: ReadProtocol = "rtsp"

DEFAULT_SOURCE_GRACE_S = 60.0
_LADDER_MARGIN_S = 5.0
"""A worker notices a loss up to 5 s later than the media server's event tells it."""


@dataclass(frozen=True, slots=True)
class Source:
    """A stream that is published, or was until a moment ago. ``gone_since_ns`` is None while it is online."""

    spec: WorkerSpec
    gone_since_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What :func:`desired_sources` needs beside the list of paths. Frozen at the entry point."""

    config: Config
    speech_urls: Mapping[BackendKind, str] = field(default_factory=dict)
    """Base address of the service behind each kind of backend, as ``up`` started it; else it is the config's."""
    journal_dir: Path | None = None
    source_grace_s: float = DEFAULT_SOURCE_GRACE_S
    """How long a worker outlives its source; it rides over the gap by itself and keeps its output up."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The streams that should have a worker, by id."""

    sources: Mapping[str, Source] = field(default_factory=dict)

    @property
    def specs(self) -> dict[str, WorkerSpec]:
        return {stream_id: source.spec for stream_id, source in self.sources.items()}


def desired_sources(
    paths: Iterable[PathInfo], before: Wanted, settings: Settings, server: MediaServer, now_ns: int
) -> Wanted:
    """The streams whose ingest path is online, and those within the grace period after it went.

    A stream within its grace keeps its last spec unchanged, so that nothing restarts when the source is back.
    """
    sources: dict[str, Source] = {}
    for path in paths:
        stream_id = stream_id_of_ingest_path(path.name)
        if stream_id is not None and path.online:
            sources[stream_id] = Source(worker_spec(stream_id, path, settings, server))
    for stream_id, source in before.sources.items():
        if stream_id in sources:
            continue
        since_ns = now_ns if source.gone_since_ns is None else source.gone_since_ns
        if now_ns - since_ns < grace_s(source.spec, settings) * NS_PER_S:
            sources[stream_id] = Source(source.spec, since_ns)
    return Wanted(sources)


def grace_s(spec: WorkerSpec, settings: Settings) -> float:
    """How long a worker outlives its source: to the end of its own ladder at least, whose steps are counted on air.

    Where that has no end, the orchestrator's patience is the end.
    """
    end_s = spec.source_loss.end_after_s
    if end_s is None:
        return settings.source_grace_s
    delay_s = max(spec.delay_s, spec.controls.delay_s if spec.controls else 0.0)
    return max(settings.source_grace_s, end_s + delay_s + _LADDER_MARGIN_S)


def worker_spec(stream_id: str, path: PathInfo, settings: Settings, server: MediaServer) -> WorkerSpec:
    """The spec of the stream's worker, at generation 0."""
    stream = settings.config.stream(stream_id)
    several = len(stream.target_languages) > 1
    return WorkerSpec(
        stream_id=stream_id,
        ingest_url=ingest_url(path, server),
        source_language=stream.source_language,
        targets=tuple(
            TargetSpec(
                language=language,
                output_url=server.publish_url(output_path(stream_id, language if several else None)),
                voice=stream.voice,
            )
            for language in stream.target_languages
        ),
        backend=_backend(stream.backends[0], settings),
        standby_backends=tuple(_backend(kind, settings) for kind in stream.backends[1:]),
        delay_s=stream.delay,
        separation=stream.separation,
        separation_model=stream.separation_model,
        on_separation_failure=stream.on_separation_failure,
        fallback=stream.fallback,
        fallback_by_cause=stream.fallback_by_cause,
        mix=stream.mix,
        source_loss=stream.source_loss,
        breaker=stream.breaker,
        captions=stream.captions,
        audio_bitrate=stream.audio_bitrate,
        journal_dir=settings.journal_dir / stream_id if settings.journal_dir else None,
    )


def own_controls(stream_id: str, settings: Settings) -> Controls:
    """What the config alone says of all that can be changed on air."""
    stream = settings.config.stream(stream_id)
    return Controls(
        fallback=stream.fallback, fallback_by_cause=stream.fallback_by_cause, mix=stream.mix, delay_s=stream.delay
    )


def ingest_url(path: PathInfo, server: MediaServer) -> str:
    """The first of RTMP, SRT and RTSP that carries all tracks and that the server has; else RTMP, for what it can."""
    wanted: list[ReadProtocol] = [protocol for protocol, tracks in _CARRIERS if tracks.issuperset(path.tracks)]
    for protocol in (*wanted, _RTSP):
        with contextlib.suppress(MediaServerError):
            return server.read_url(path.name, protocol)
    return server.read_url(path.name, _RTMP)


def output_paths(settings: Settings, stream_id: str) -> dict[str, str]:
    """Language → path of the finished programme."""
    languages = settings.config.stream(stream_id).target_languages
    return {language: output_path(stream_id, language if len(languages) > 1 else None) for language in languages}


def _backend(kind: BackendKind, settings: Settings) -> BackendSpec:
    config = settings.config
    if kind == "none":
        return BackendSpec(kind="none")
    if kind == "gemini-live":
        gemini = config.gemini
        return BackendSpec(kind=kind, token=gemini.api_key, **gemini.model_dump(exclude={"api_key"}))
    if kind == "openai-realtime":
        openai = config.openai
        return BackendSpec(kind=kind, token=openai.api_key, **openai.model_dump(exclude={"api_key"}))
    speech = config.speech
    url = settings.speech_urls.get(kind, speech.url)
    # the token is for the service that the config names, and for no other
    return BackendSpec(kind=kind, url=url, token=speech.token if url == speech.url else None)
