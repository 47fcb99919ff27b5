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


class Manifest(_Record):
    """``entry`` is the file that stands for the whole model where it has one; ``sources`` are the addresses that the
    files came from, without their queries."""

    name: str
    kind: Kind
    family: str
    licence: str
    entry: str | None = None
    sources: tuple[str, ...] = ()
    pulled: str
    files: tuple[FileRecord, ...]


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of the model in ``folder``; None where there is none, or none that can be read."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None
