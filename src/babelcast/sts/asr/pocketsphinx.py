"""English recognition with pocketsphinx, one child process per decoder."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import subprocess
import sys
import threading
import time

from babelcast.errors import MissingDependencyError, SpeechError, SpeechUnavailableError
from babelcast.sts.asr.base import AsrOptions, Recognizer, Word
from babelcast.sts.asr.pocketsphinx_child import HEADER, LENGTH

_MAX_ANSWER = 1 << 20


class PocketsphinxRecognizer:
    """A decoder in a child process (135 MB). Used by one thread at a time."""

    language = "en"

    def __init__(self, timeout_s: float = 5.0) -> None:
        self._timeout_s = timeout_s
        # Its errors go where ours go. In a session of its own: Ctrl-C at the terminal is not for it, the end of its
        # input is.
        self._child = subprocess.Popen(
            [sys.executable, "-m", "babelcast.sts.asr.pocketsphinx_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._child.stdin and self._child.stdout
        self._stdin, self._stdout = self._child.stdin, self._child.stdout
        os.set_blocking(self._stdin.fileno(), False)

    def wait_ready(self, timeout_s: float = 20.0) -> None:
        """Return once the model is loaded."""
        self._receive(timeout_s)

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def start(self) -> None:
        self._send(b"S")

    def feed(self, pcm: bytes) -> None:
        self._send(b"F", pcm)

    def partial(self) -> list[Word]:
        self._send(b"P")
        return self._receive(self._timeout_s)

    def finish(self) -> list[Word]:
        self._send(b"E")
        return self._receive(self._timeout_s)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stdin.close()
        try:
            self._child.wait(0.3)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._stdout.close()

    def _send(self, operation: bytes, payload: bytes = b"") -> None:
        """Write a request; a full pipe (64 KiB, 2 s of sound) is the decoder's back pressure."""
        view = memoryview(HEADER.pack(operation, len(payload)) + payload)
        deadline = time.monotonic() + self._timeout_s
        try:
            while view:
                try:
                    view = view[os.write(self._stdin.fileno(), view) :]
                except BlockingIOError:
                    self._poll(self._stdin.fileno(), deadline, write=True)
        except (OSError, ValueError) as error:
            raise SpeechError("the recogniser died", code="engine_failed", retryable=True) from error

    def _receive(self, timeout_s: float) -> list[Word]:
        deadline = time.monotonic() + timeout_s
        (length,) = LENGTH.unpack(self._read(LENGTH.size, deadline))
        if length > _MAX_ANSWER:
            raise SpeechError("the recogniser broke its protocol", code="engine_failed", retryable=True)
        found = json.loads(self._read(length, deadline))
        return [Word(text, start, end, probability) for text, start, end, probability in found]

    def _read(self, count: int, deadline: float) -> bytes:
        data = b""
        while len(data) < count:
            self._poll(self._stdout.fileno(), deadline, write=False)
            more = os.read(self._stdout.fileno(), count - len(data))
            if not more:
                raise SpeechError("the recogniser died", code="engine_failed", retryable=True)
            data += more
        return data

    @staticmethod
    def _poll(fd: int, deadline: float, write: bool) -> None:
        poller = select.poll()
        poller.register(fd, select.POLLOUT if write else select.POLLIN)
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise SpeechError("the recogniser does not answer", code="engine_failed", retryable=True)


class PocketsphinxEngine:
    """Hands out recognisers. ``spares`` of them are kept loaded, so that a session opens without waiting."""

    name = "pocketsphinx"
    languages = ("en",)
    wants_denoised = True
    lead_words = 2
    """Its language model guesses a word from the two before. Measured (docs/reference/engines.md): a word error rate of
    0.053 instead of 0.073, over music 0.3 instead of 0.33; with three it is no better."""

    def __init__(self, spares: int = 1) -> None:
        if importlib.util.find_spec("pocketsphinx") is None:
            raise MissingDependencyError("pocketsphinx is not installed", hint="pip install 'babelcast[sts]'")
        self._max_spares = spares
        self._lock = threading.Lock()
        self._spares: list[PocketsphinxRecognizer] = []
        self._closed = False

    def preload(self) -> None:
        """Load the spare recognisers that are missing and wait until they are there."""
        while len(self._spares) < self._max_spares and not self._closed:
            self.recycle(self._load())

    def open(self, options: AsrOptions = AsrOptions()) -> PocketsphinxRecognizer:  # noqa: B008 - frozen
        while True:
            with self._lock:
                if self._closed:
                    raise SpeechUnavailableError("the service is stopping", code="overloaded")
                recognizer = self._spares.pop() if self._spares else None
            if recognizer is None:
                return self._load()
            if recognizer.alive:
                return recognizer
            recognizer.close()

    def recycle(self, recognizer: Recognizer) -> None:
        assert isinstance(recognizer, PocketsphinxRecognizer)
        with self._lock:
            if len(self._spares) < self._max_spares and not self._closed and recognizer.alive:
                self._spares.append(recognizer)
                return
        recognizer.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            spares, self._spares = self._spares, []
        for recognizer in spares:
            recognizer.close()

    @staticmethod
    def _load() -> PocketsphinxRecognizer:
        recognizer = PocketsphinxRecognizer()
        try:
            recognizer.wait_ready()
        except SpeechError as error:
            recognizer.close()
            raise SpeechUnavailableError(
                "the recogniser did not start", code="engine_failed", hint="the speech service's log says why"
            ) from error
        return recognizer
