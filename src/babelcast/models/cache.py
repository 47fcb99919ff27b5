"""Where models lie on this machine. Looking here never talks to the network."""

from __future__ import annotations

import os
from pathlib import Path

from babelcast.errors import ConfigError, MissingDependencyError
from babelcast.models.manifest import Kind, read_manifest

CACHE_VARIABLE = "BABELCAST_CACHE"


def cache_dir() -> Path:
    """``$BABELCAST_CACHE``, else ``$XDG_CACHE_HOME/babelcast/models``, else ``~/.cache/babelcast/models``.

    One folder a model, named as the model is. It need not exist.
    """
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    root = os.environ.get("XDG_CACHE_HOME") or ""
    base = Path(root) if os.path.isabs(root) else Path.home() / ".cache"
    return base / "babelcast" / "models"


def is_path(name: str) -> bool:
    """Whether ``name`` points to a model of the user's own instead of naming one: it has a ``/`` or begins with
    ``.`` or ``~``."""
    return "/" in name or os.sep in name or name.startswith((".", "~"))


def resolve(name: str, kind: Kind | None = None) -> Path:
    """The folder of a pulled model, or its file where one file is the whole model (a separation network).

    ``name`` is a registry name, or the path of a model of your own, which is taken as it is. ``kind`` says what the
    caller can use. Raises MissingDependencyError (the hint is the command that pulls it) where it is not on this
    machine, ConfigError where it is of another kind, or where nothing has that name.
    """
    if is_path(name):
        path = Path(name).expanduser()
        if not path.exists():
            raise MissingDependencyError(f"no model at {path}", hint="babelcast models list shows those with a name")
        return path
    folder = cache_dir() / name
    manifest = read_manifest(folder)
    if manifest is None:
        from babelcast.models.registry import registry  # 100 ms of YAML that nobody else here needs

        registry().find(name)  # says what was meant, where there is no such name
        raise MissingDependencyError(f"the model {name} is not on this machine", hint=f"babelcast models pull {name}")
    if kind is not None and manifest.kind != kind:
        raise ConfigError(f"{name} is a model for {manifest.kind}, not for {kind}")
    path = folder / manifest.entry if manifest.entry else folder
    if not path.exists():
        raise MissingDependencyError(
            f"the model {name} is not whole: {path.name} is gone", hint=f"babelcast models pull {name}"
        )
    return path
