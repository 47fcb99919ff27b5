"""What a pulled model says of itself: ``manifest.json`` beside its files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Kind = Literal["asr", "mt", "tts", "separation", "vad"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

MANIFEST = "manifest.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class FileRecord(_Record):
    """One file. ``path`` is relative to the model's folder, with ``/``."""

    path: str
    size: int = Field(ge=0)
    sha256: Sha256


class VoiceRecord(_Record):
    """One voice of a TTS model. ``speaker`` is its number in the model, ``phonemes`` the espeak-ng voice whose
    phonemes it was trained on."""

    name: str
    language: str
    gender: Literal["female", "male", "neutral"]
    speaker: int = Field(default=0, ge=0)
    phonemes: str


class Traits(_Record):
    """What an engine must know of a model, and its files do not say.

    ``family`` names the layout of the files: ``whisper``, ``marian``, ``nllb``, ``madlad``, ``kokoro``, ``piper``,
    ``mdx``, ``silero``. ``languages`` is empty where the family knows them. ``entry`` is the file that stands for the
    whole model where it has one. ``target_tokens`` is what a translation model wants at the head of its source, by
    target language.
    """

    kind: Kind
    family: str
    licence: str
    entry: str | None = None
    languages: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    target_tokens: dict[str, str] = Field(default_factory=dict)
    voices: tuple[VoiceRecord, ...] = ()


class Manifest(Traits):
    """``downloads`` are the files as they came (an archive has one), ``files`` those that lie here now."""

    name: str
    pulled: str
    """When, in ISO 8601."""
    source: str
    """Where from: an address without query."""
    downloads: tuple[FileRecord, ...] = ()
    files: tuple[FileRecord, ...]


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of the model in ``folder``; None where there is none, or none that can be read."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None
