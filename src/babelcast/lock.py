"""Locks on files: free again when their holder ends, whatever ends it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from babelcast.errors import BabelcastError


@contextlib.contextmanager
def held(path: Path, refused: BabelcastError) -> Iterator[None]:
    """Hold ``path``, in a folder that is there or is made, inside. Raises ``refused`` where another one does, OSError
    where the file can't be had."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("a", encoding="ascii") as file:
        os.chmod(path, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refused from None
        yield


def is_held(path: Path) -> bool:
    """Whether somebody holds it now."""
    try:
        with path.open(encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except OSError:
        return True
