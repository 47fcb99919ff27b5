"""To Ray: the cluster that is named, or one of our own on this machine that ends with the block."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from babelcast.errors import BabelcastError, ConfigError, MissingDependencyError

T = TypeVar("T")

_OPTIONS: dict[str, Any] = {"namespace": "babelcast", "logging_level": logging.ERROR}
_DIAL_S = 5.0
_CONNECT_S = 30.0
_LONGEST_TEMP = 24
"""Ray puts sockets below its temporary folder, up to 80 characters deeper; Unix sockets have paths of 107."""


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """``address``: ``HOST:PORT``, ``auto``, or None for one of our own. Raises MissingDependencyError, ConfigError,
    BabelcastError."""
    if address is not None:
        _dial(address)
    with contextlib.ExitStack() as undo:
        folder = undo.enter_context(_temporary()) if address is None else None
        # before the import, which reads them
        undo.enter_context(_environment(RAY_USAGE_STATS_ENABLED="0", RAY_DEDUP_LOGS="0"))
        if folder:
            token = str(_token_file(folder))
            undo.enter_context(_environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=token))
        ray = _imported()
        undo.callback(ray.shutdown)
        if folder:
            with _or_exit("Ray did not start"):
                _start(ray, folder)
        else:
            with _or_exit(f"the Ray cluster at {address} did not answer"):
                ray.init(address=address, **_OPTIONS)
        yield


def _imported() -> Any:
    """Raises MissingDependencyError."""
    try:
        import ray
        from ray import serve  # noqa: F401 - whether the extra is whole
    except ImportError as error:
        raise MissingDependencyError(
            "--ray needs Ray Serve", hint="pip install 'babelcast[sts,ray]', or in a checkout: make setup-ray"
        ) from error
    return ray


def _start(ray: Any, folder: Path) -> None:
    ray.init(address="local", include_dashboard=False, _temp_dir=str(folder), _node_ip_address="127.0.0.1", **_OPTIONS)


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    base = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="bc-ray-", dir=base if len(base) <= _LONGEST_TEMP else "/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _token_file(folder: Path) -> Path:
    """Whoever can reach Ray's ports can run code with them; this keeps the other users of the machine out."""
    file = folder / "token"
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(secrets.token_hex(32))
    return file


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """For Ray's own processes too; what the user has set stays."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _dial(address: str) -> None:
    """Ray waits for a dead head for minutes; a connection that is refused says so at once. Raises BabelcastError."""
    if address == "auto" or "://" in address:
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"{address!r} is no address of a cluster", key="--ray-address", hint="HOST:6379, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _DIAL_S).close()
    except OSError as error:
        raise BabelcastError(
            f"no Ray cluster at {address}: {error}", hint="on its head: ray start --head --port=6379"
        ) from error


@contextlib.contextmanager
def _or_exit(late: str) -> Iterator[None]:
    """``ray.init`` has no timeout and must be called in the main thread: its processes die with the thread that starts
    them. So where it hangs, the program ends."""

    def end() -> None:
        sys.stderr.write(f"babelcast: {late} within {_CONNECT_S:g} s\n")
        os._exit(1)

    timer = threading.Timer(_CONNECT_S, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def within(limit_s: float, late: str, call: Callable[[], T]) -> T:
    """In a thread of its own, which is left behind where it hangs: Ray's calls have no timeout."""
    found: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            found.append(call())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="ray call", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        raise BabelcastError(f"{late} within {limit_s:g} s")
    if failed:
        raise failed[0]
    return found[0]
