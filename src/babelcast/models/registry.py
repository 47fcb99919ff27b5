"""The models that can be pulled by name, from ``registry.yml`` in this package."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import PurePosixPath

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from babelcast.errors import ConfigError
from babelcast.models.manifest import Sha256, Traits

MIRROR_VARIABLE = "BABELCAST_MODELS_"
"""``BABELCAST_MODELS_HUB`` and its like are addresses of mirrors, laid out as the source that they name."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelFile(_Entry):
    """One file to download. ``size`` in bytes is exact where ``sha256`` is given, else a guide."""

    path: str
    size: int = Field(gt=0)
    sha256: Sha256 | None = None
    archive: bool = False

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts:
            raise ValueError("must be a path inside the model's folder")
        return path


class Model(Traits):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,80}$")
    source: str
    repository: str
    revision: str = "main"
    commercial: bool = True
    unverified: bool = False
    note: str = ""
    files: tuple[ModelFile, ...] = Field(min_length=1)

    @property
    def size(self) -> int:
        """Bytes to download, about."""
        return sum(file.size for file in self.files)

    @property
    def pinned(self) -> bool:
        """Every file's checksum is known before the first pull."""
        return all(file.sha256 for file in self.files)

    def url(self, file: ModelFile, base: str) -> str:
        """Where ``file`` lies on a source of this kind at ``base``."""
        if self.source == "hub":
            return f"{base}/{self.repository}/resolve/{self.revision}/{file.path}"
        return f"{base}/{self.repository}/{file.path}"


class Registry(_Entry):
    sources: dict[str, str]
    models: dict[str, Model]

    def find(self, name: str) -> Model:
        """Raises ConfigError, which names a model that is spelt alike."""
        if name in self.models:
            return self.models[name]
        close = difflib.get_close_matches(name, self.models, n=1)
        hint = f"did you mean {close[0]}?" if close else "babelcast models list"
        raise ConfigError(f"there is no model {name!r}", hint=hint)

    def base_url(
        self, source: str, mirrors: Mapping[str, str] | None = None, environment: Mapping[str, str] = os.environ
    ) -> str:
        """The address of a source: from ``mirrors``, the environment, or the registry."""
        own = (mirrors or {}).get(source) or environment.get(MIRROR_VARIABLE + source.upper())
        return (own or self.sources[source]).rstrip("/")


def parse_registry(text: str) -> Registry:
    document = yaml.safe_load(text)
    document["models"] = {name: model | {"name": name} for name, model in document["models"].items()}
    return Registry.model_validate(document)


@cache
def registry() -> Registry:
    """The registry of this package."""
    return parse_registry(resources.files("babelcast.models").joinpath("registry.yml").read_text(encoding="utf-8"))
