"""What the config file ``babelcast.yaml`` may say: read once at an entry point (:mod:`babelcast.config_file`), passed
down as frozen objects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from babelcast.hosts import LOOPBACK
from babelcast.preview.settings import PreviewSettings
from babelcast.spec import (
    MAX_DELAY_S,
    MIN_DELAY_S,
    BackendKind,
    BreakerSpec,
    CaptionsSpec,
    FallbackCause,
    FallbackMode,
    LanguageTag,
    MixSpec,
    SeparationMode,
    SourceLossSpec,
    StreamId,
    Token,
)

MediaServerChoice = Literal["auto", "mediamtx", "relay"]
Port = Annotated[int, Field(ge=0, le=65_535)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Listen(_Section):
    """Addresses to listen on; port 0 takes a free one. The API stays on loopback unless told otherwise.

    ``rtsp``, ``srt`` and ``webrtc`` are MediaMTX's; null switches one off. The relay has RTMP alone.
    """

    host: str = "0.0.0.0"
    """Interface for publishers and viewers."""
    rtmp: Port = 1935
    rtsp: Port | None = 8554
    srt: Port | None = 8890
    webrtc: Port | None = 8889
    api_host: str = "127.0.0.1"
    api: Port = 8080


class Destination(_Section):
    """Where a finished programme is sent: ``url`` with ``key`` appended as its last path component."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
    url: str
    key: SecretStr | None = None
    language: LanguageTag | None = None
    """Which target language to send; the stream's first by default."""
    enabled: bool = True
    slate: bool = True
    """While the programme is away, send the slate that ``source_loss`` describes; else hold the connection silently."""

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if not re.match(r"^rtmps?://[^/\s]+/\S*", url):
            raise ValueError("must be rtmp://HOST/APP or rtmps://HOST/APP")
        return url


class StreamSettings(_Section):
    """What can be set for one stream, and under ``defaults`` for all."""

    source_language: LanguageTag = "en"
    target_languages: tuple[LanguageTag, ...] = Field(default=("es",), min_length=1)
    voice: str | None = None
    delay: float = Field(default=6.0, ge=MIN_DELAY_S, le=MAX_DELAY_S)
    """Seconds between a picture coming in and the same picture going out."""
    backend: BackendKind | tuple[BackendKind, ...] = "sts"
    """Several are tried in order: see :mod:`babelcast.speech.failover`."""
    fallback: FallbackMode = "original"
    fallback_by_cause: dict[FallbackCause, FallbackMode] = Field(default_factory=dict)
    separation: SeparationMode = "auto"
    separation_model: str | None = None
    on_separation_failure: Literal["ducked", "original", "skip"] = "ducked"
    mix: MixSpec = MixSpec()
    source_loss: SourceLossSpec = SourceLossSpec()
    breaker: BreakerSpec = BreakerSpec()
    captions: CaptionsSpec = CaptionsSpec()
    audio_bitrate: int = Field(default=160_000, ge=32_000, le=512_000)
    """Bits per second of the published AAC."""

    @property
    def backends(self) -> tuple[BackendKind, ...]:
        """The backends in order of preference; never empty."""
        return (self.backend,) if isinstance(self.backend, str) else self.backend

    @field_validator("backend")
    @classmethod
    def _one_of_each(cls, backend: BackendKind | tuple[BackendKind, ...]) -> BackendKind | tuple[BackendKind, ...]:
        if not isinstance(backend, str):
            if not backend or len(set(backend)) != len(backend):
                raise ValueError("name at least one backend, and each once")
            if "none" in backend and len(backend) > 1:
                raise ValueError("none stands alone: it is the original sound")
        return backend

    @model_validator(mode="after")
    def _captions_of_ours(self) -> Self:
        language = self.captions.language
        if language is not None and language not in (self.source_language, *self.target_languages):
            raise ValueError(f"captions.language is {language}, which is neither the source language nor a target")
        return self

    @field_validator("target_languages")
    @classmethod
    def _distinct(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(languages)) != len(languages):
            raise ValueError("a language is named twice")
        return languages


class StreamConfig(StreamSettings):
    """One stream, defaults applied."""

    destinations: tuple[Destination, ...] = ()

    @model_validator(mode="after")
    def _check_destinations(self) -> StreamConfig:
        names = [destination.name for destination in self.destinations]
        if len(set(names)) != len(names):
            raise ValueError("two destinations have the same name")
        for destination in self.destinations:
            if destination.language is not None and destination.language not in self.target_languages:
                raise ValueError(
                    f"destination {destination.name} asks for language {destination.language}, "
                    "which is not in target_languages"
                )
        return self


class Speech(_Section):
    """The speech service. Without ``url``, ``babelcast up`` starts one of its own on this machine. The settings from
    ``asr`` on are for that one: they are the options of ``babelcast sts``."""

    url: str | None = Field(default=None, pattern=r"^https?://\S+$")
    token: SecretStr | None = None
    asr: str | None = None
    mt: tuple[str, ...] = ()
    tts: tuple[str, ...] = ()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute_type: str | None = None
    workers: int | None = Field(default=None, ge=1, le=64)
    max_sessions: int | None = Field(default=None, ge=1, le=256)
    glossary: Path | None = None

    @model_validator(mode="after")
    def _ours_or_theirs(self) -> Speech:
        ours = self.model_fields_set - {"url", "token"}
        if self.url is not None and ours:
            raise ValueError(f"{min(ours)} is for the service that babelcast starts itself, and url names another")
        return self

    def options(self) -> list[str]:
        """What ``babelcast sts`` is started with."""
        one = {
            "--asr": self.asr,
            "--compute-type": self.compute_type,
            "--workers": self.workers,
            "--max-sessions": self.max_sessions,
            "--glossary": self.glossary,
        }
        argv = [part for name, value in one.items() if value is not None for part in (name, str(value))]
        argv += [part for name in self.mt for part in ("--mt", name)]
        argv += [part for name in self.tts for part in ("--tts", name)]
        return [*argv, "--device", self.device]


class Gemini(_Section):
    """Gemini Live. Prices in US dollars per million audio tokens; what is absent is the built-in price list's."""

    api_key: SecretStr | None = None
    """``GEMINI_API_KEY`` in the worker's environment where it is absent."""
    model: str | None = None
    url: str | None = Field(default=None, pattern=r"^https://\S+$")
    """A gateway with the same protocol."""
    usd_per_m_in: float | None = Field(default=None, ge=0.0)
    usd_per_m_out: float | None = Field(default=None, ge=0.0)
    budget_usd_per_hour: float | None = Field(default=None, gt=0.0)
    """A stream's ceiling, all its languages together; beyond it the next backend speaks, or the fallback is on air."""


class OpenAi(_Section):
    """OpenAI's Realtime translation."""

    api_key: SecretStr | None = None
    """``OPENAI_API_KEY`` in the worker's environment where it is absent."""
    model: str | None = None
    url: str | None = Field(default=None, pattern=r"^https?://\S+$")
    usd_per_minute: float | None = Field(default=None, ge=0.0)
    budget_usd_per_hour: float | None = Field(default=None, gt=0.0)


class MediaMtxSettings(_Section):
    """``binary``: which program to start. ``api``: use a running MediaMTX instead, by its API's address."""

    binary: Path | None = None
    api: str | None = Field(default=None, pattern=r"^https?://\S+$")


class Bridge(_Section):
    """The media bridge. ``env_file``: ``babelcast up`` runs one with these settings; ``api``: one that runs elsewhere,
    and ``token`` is its API's."""

    env_file: Path | None = None
    api: str | None = Field(default=None, pattern=r"^https?://\S+$")
    token: SecretStr | None = None

    @model_validator(mode="after")
    def _ours_or_theirs(self) -> Bridge:
        if self.env_file is not None and self.api is not None:
            raise ValueError("env_file is for a bridge that babelcast starts, and api names one that runs: give one")
        if self.token is not None and self.api is None:
            raise ValueError("token is for a bridge that runs elsewhere: give api as well")
        return self


class Audio(_Section):
    """The bridge's audio endpoint, run by ``babelcast up`` where this section is there."""

    host: str = "127.0.0.1"
    port: Port = 9000
    token: Token | None = None
    """Asked of everybody but listeners."""
    stream_token: Token | None = None
    """Asked of listeners."""

    @model_validator(mode="after")
    def _token_beyond_loopback(self) -> Audio:
        if self.host not in LOOPBACK and self.token is None:
            raise ValueError("host opens the audio endpoint to the network: set token as well")
        return self


class Limits(_Section):
    """Bounds of one machine."""

    workers: int = Field(default=32, ge=1, le=10_000)
    """Streams dubbed at the same time. One more waits until a worker ends, and says so."""
    kept_streams: int = Field(default=200, ge=0, le=100_000)
    """Streams that ended and have no settings of their own here: so many are remembered, with captions and logs."""
    kept_days: float = Field(default=30.0, gt=0.0, le=36_500.0)
    """And for so long."""


class Config(_Section):
    """The whole file."""

    media_server: MediaServerChoice = "auto"
    listen: Listen = Listen()
    mediamtx: MediaMtxSettings = MediaMtxSettings()
    speech: Speech = Speech()
    gemini: Gemini = Gemini()
    openai: OpenAi = OpenAi()
    bridge: Bridge = Bridge()
    audio: Audio | None = None
    api_token: Token | None = None
    state_dir: Path | None = None
    """Where the state database and the workers' files live; ``~/.local/state/babelcast`` by default."""
    limits: Limits = Limits()
    preview: PreviewSettings = PreviewSettings()
    defaults: StreamSettings = StreamSettings()
    streams: dict[StreamId, StreamConfig] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _token_beyond_loopback(self) -> Config:
        if self.listen.api_host not in LOOPBACK and self.api_token is None:
            raise ValueError("listen.api_host opens the API to the network: set api_token as well")
        return self

    @model_validator(mode="after")
    def _view_token_with_a_token(self) -> Config:
        if self.preview.token is not None and self.api_token is None:
            raise ValueError("preview.token opens previews alone, and without api_token all is open: set that as well")
        return self

    def stream(self, stream_id: str) -> StreamConfig:
        """The settings of ``stream_id``; a stream that the file does not name gets the defaults."""
        return self.streams.get(stream_id) or StreamConfig(**dict(self.defaults))

    def languages(self) -> set[tuple[str, str]]:
        """Every (source, target) pair that a stream of this file may ask for."""
        settings: list[StreamSettings] = [self.defaults, *self.streams.values()]
        return {(s.source_language, target) for s in settings if "sts" in s.backends for target in s.target_languages}
