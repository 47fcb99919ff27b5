"""The page's own files: read once, named by what is in them, so that a browser keeps them and never mixes versions."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
PREFIX = "/console"
_VERSION = b"__VERSION__"


@dataclass(frozen=True, slots=True)
class Asset:
    media_type: str
    body: bytes
    gzipped: bytes


@dataclass(frozen=True, slots=True)
class Assets:
    """``version``: changes with any of the files. ``index`` is the page; ``files`` by their names."""

    version: str
    index: Asset
    files: dict[str, Asset] = field(repr=False)


@cache
def load_assets() -> Assets:
    """Of the package's folder ``page``; in ``index.html`` ``__VERSION__`` is replaced."""
    folder = resources.files("babelcast.console").joinpath("page")
    found = {each.name: each.read_bytes() for each in folder.iterdir() if each.name.rpartition(".")[2] in _TYPES}
    digest = hashlib.sha256()
    for name, body in sorted(found.items()):
        digest.update(name.encode() + b"\0" + body + b"\0")
    version = digest.hexdigest()[:12]
    index = _asset("index.html", found.pop("index.html").replace(_VERSION, version.encode()))
    return Assets(version, index, {name: _asset(name, body) for name, body in found.items()})


def _asset(name: str, body: bytes) -> Asset:
    return Asset(_TYPES[name.rpartition(".")[2]], body, gzip.compress(body, 9, mtime=0))
