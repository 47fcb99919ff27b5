"""Settings of the audio endpoint, and the controls of its mix."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from babelcast.audio.duck import Ducking
from babelcast.spec import DuckingSpec


@dataclass(frozen=True, slots=True)
class AudioSettings:
    """Times in seconds. ``token`` is asked of everybody but listeners, ``stream_token`` of listeners."""

    token: SecretStr | None = field(default=None, repr=False)
    stream_token: SecretStr | None = field(default=None, repr=False)
    bitrate: int = 128_000
    max_listeners: int = 200
    max_producers: int = 4
    """Bodies that are decoded at once: the one that is heard, and those that are about to be."""
    target_s: float = 0.25
    """A live producer's sound waits so long before it is heard, which is the jitter that it may have."""
    late_s: float = 0.75
    """What is longer behind, for half a second, is cut back to ``target_s``, so that a burst does not become delay."""
    burst_s: float = 10.0
    """So much of a live producer may come at once."""
    file_s: float = 2.0
    """So much of a file is decoded ahead; then its sender has to wait."""
    producer_timeout_s: float = 60.0
    """A producer that sends nothing for so long is taken to be gone."""
    backlog_s: float = 2.0
    """A listener that is further behind misses what it did not read."""
    stuck_s: float = 10.0
    """A listener that takes nothing for so long is dropped."""
    speech_url: str | None = None
    speech_token: SecretStr | None = field(default=None, repr=False)
    speech_s: float = 120.0
    """Speech that may wait to be heard."""
    max_utterances: int = 16


class Mix(BaseModel):
    """``output = bed × bed_gain × ducking + speech × speech_gain``: linear gains. The bed is what producers send, the
    speech what ``/say`` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bed_gain: float = Field(default=1.0, ge=0.0, le=4.0)
    speech_gain: float = Field(default=1.0, ge=0.0, le=4.0)
    mute_bed: bool = False
    mute_speech: bool = False
    mute: bool = False
    """All of it: silence goes on."""
    ducking: DuckingSpec = DuckingSpec(enabled=True)

    @property
    def sidechain(self) -> Ducking:
        return Ducking(**self.ducking.model_dump())
