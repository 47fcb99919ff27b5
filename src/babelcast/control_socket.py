"""A Unix socket in a folder that only its owner enters: nobody else can read a key from it or pose as its server.

The path of a Unix socket may have 107 bytes, and a state directory can be longer. So on Linux the folder is held open
and named by its descriptor.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

_NAME = "control.sock"


@contextlib.contextmanager
def socket_path(folder: Path) -> Iterator[str]:
    """A short name of the socket in ``folder``; valid inside the block. Raises OSError where there is no folder."""
    if sys.platform != "linux":
        yield str(folder / _NAME)
        return
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{held}/{_NAME}"
    finally:
        os.close(held)


@contextlib.contextmanager
def listening(folder: Path) -> Iterator[socket.socket]:
    """A bound socket, in the place of whatever an earlier process left. The caller holds the folder's lock."""
    (folder / _NAME).unlink(missing_ok=True)
    with socket_path(folder) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        os.chmod(folder / _NAME, 0o600)
        yield server
