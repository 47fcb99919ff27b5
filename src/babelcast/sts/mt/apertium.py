"""Translation with apertium, its stages kept running: 1 to 3 ms a sentence instead of 110 ms for the command.

``apertium -z`` hangs on an open pipe, so each stage of ``PAIR.mode`` is started with ``-z`` (null flush) and joined
here. A request is the escaped text, ``.[]`` and a newline, then NUL; the answer ends with NUL. The added full stop
makes the tagger see a whole sentence, ``[]`` is a blank that carries the newline through unchanged.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import shutil
import subprocess
import threading
import time
from pathlib import Path

from babelcast.errors import MissingDependencyError, SpeechError, UnsupportedLanguageError
from babelcast.sts.mt.base import primary

MODES = Path("/usr/share/apertium/modes")
_TAGS = {"eng": "en", "spa": "es", "cat": "ca", "fra": "fr", "epo": "eo", "glg": "gl", "eus": "eu", "por": "pt"}
_SPECIAL = re.compile(r"([\^$/<>{}\[\]@\\*])")
_UNKNOWN = re.compile(r"\*(\w[\w'’-]*)")
_MARKS = re.compile(r"\*|(?<!\w)[@#](?=\w)")
"""What the stages put before a word that they don't know, can't translate, or can't inflect."""
_MAX_ANSWER = 1 << 20
_MAX_TEXT = 5_000


class Pipeline:
    """One language pair's resident stages. Not safe for threads; broken after an error: throw it away."""

    def __init__(self, mode: Path, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._stages: list[subprocess.Popen[bytes]] = []
        try:
            self._start(commands(mode.read_text()))
        except OSError as error:
            self.close()
            raise SpeechError(f"apertium did not start: {error}", code="engine_failed", retryable=True) from error

    def _start(self, stages: list[list[str]]) -> None:
        for argv in stages:
            source = self._stages[-1].stdout if self._stages else subprocess.PIPE
            # in a session of its own: Ctrl-C at the terminal is not for it, the end of its input is
            stage = subprocess.Popen(
                argv,
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
            )
            if self._stages and self._stages[-1].stdout:
                self._stages[-1].stdout.close()  # the next stage holds it now
            self._stages.append(stage)

    def translate(self, text: str) -> str:
        """One line in, one line out; unknown words are marked with ``*``."""
        first, last = self._stages[0].stdin, self._stages[-1].stdout
        assert first and last
        deadline = time.monotonic() + self._timeout_s
        poller = select.poll()  # select() takes no descriptor beyond 1023
        poller.register(last, select.POLLIN)
        answer = b""
        try:
            os.write(first.fileno(), f"{escape(text)}.[]\n\0".encode())
            while not answer.endswith(b"\0"):
                if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    raise SpeechError("apertium does not answer", code="deadline", retryable=True)
                more = os.read(last.fileno(), 65536)
                if not more or len(answer) > _MAX_ANSWER:
                    raise SpeechError("apertium died", code="engine_failed", retryable=True)
                answer += more
        except OSError as error:
            raise SpeechError("apertium died", code="engine_failed", retryable=True) from error
        translation = unescape(answer[:-1].decode(errors="replace"))
        # where a stage in the middle dies, the ones behind it still end their answer properly
        if any(stage.poll() is not None for stage in self._stages) or (not translation and text.strip()):
            raise SpeechError("apertium died", code="engine_failed", retryable=True)
        return translation

    def close(self) -> None:
        if self._stages and (stdin := self._stages[0].stdin):
            with contextlib.suppress(OSError):
                stdin.close()  # each stage ends at the end of its input
        deadline = time.monotonic() + 0.5
        for stage in self._stages:
            try:
                stage.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                stage.kill()
                stage.wait()
            if stage.stdout:
                stage.stdout.close()


def commands(mode: str) -> list[list[str]]:
    """The stages of a ``.mode`` file with ``-z``; ``$1`` becomes ``-g`` (mark unknown words), ``$2`` nothing."""
    stages = []
    for part in mode.strip().split("|"):
        argv = [{"$1": "-g", "$2": ""}.get(word, word) for word in shlex.split(part)]
        stages.append([argv[0], "-z", *(word for word in argv[1:] if word)])
    return stages


def escape(text: str) -> str:
    """``text`` as one line in apertium's stream format."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.replace("\0", " ").split()))


def unescape(answer: str) -> str:
    text = " ".join(answer.replace("[]", " ").split())
    return re.sub(r"\\(.)", r"\1", text).removesuffix(".").rstrip()


class ApertiumTranslator:
    name = "apertium"

    def __init__(self, modes: Path = MODES, timeout_s: float = 5.0) -> None:
        if shutil.which("lt-proc") is None or not modes.is_dir():
            raise MissingDependencyError("apertium is not installed", hint="apt-get install apertium apertium-eng-spa")
        self._timeout_s = timeout_s
        self._modes = installed_pairs(modes)
        self._locks = {pair: threading.Lock() for pair in self._modes}
        self._pipelines: dict[tuple[str, str], Pipeline] = {}

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._modes)

    def preload(self, source: str, target: str) -> None:
        self.translate("good evening", source, target)

    def translate(self, text: str, source: str, target: str) -> str:
        pair = (primary(source), primary(target))
        if pair not in self._modes:
            raise UnsupportedLanguageError(
                f"no translation from {source} to {target}",
                code="unsupported_language",
                hint=f"apt-cache search apertium; here: {', '.join('-'.join(pair) for pair in self._modes) or 'none'}",
            )
        if not text.strip():
            return ""
        text = text[:_MAX_TEXT]  # the pipe of the first stage takes it at once
        with self._locks[pair]:
            answer = self._ask(pair, text)
            if unknown := set(_UNKNOWN.findall(answer)):
                # the dictionary knows names by their capital, which recognised text has not
                text = capitalize(text, unknown)
                answer = self._ask(pair, text)
        return as_spelt(_MARKS.sub("", answer), text)

    def _ask(self, pair: tuple[str, str], text: str) -> str:
        """One try on the running stages, one on new ones."""
        for last_try in (False, True):
            pipeline = self._pipelines.get(pair) or Pipeline(self._modes[pair], self._timeout_s)
            self._pipelines[pair] = pipeline
            try:
                return pipeline.translate(text)
            except SpeechError:
                del self._pipelines[pair]
                pipeline.close()
                if last_try:
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        for pair, lock in self._locks.items():
            with lock:
                if pipeline := self._pipelines.pop(pair, None):
                    pipeline.close()


def capitalize(text: str, words: set[str]) -> str:
    """``text`` with each of ``words`` given a capital."""
    return " ".join(word.capitalize() if word in words else word for word in text.split())


def as_spelt(answer: str, text: str) -> str:
    """``answer`` without the capitals that apertium gives to a first word, and to one behind an interjection, where the
    ``text`` has none: what is recognised is the middle of a sentence as often as its beginning."""
    if text == text.lower():
        return " ".join(
            word if len(word) > 1 and word.isupper() else word[:1].lower() + word[1:] for word in answer.split()
        )
    return answer[:1].lower() + answer[1:] if text[0].islower() else answer


def installed_pairs(modes: Path = MODES) -> dict[tuple[str, str], Path]:
    """The ``.mode`` file of each pair of language tags that is installed."""
    return {pair: mode for mode in sorted(modes.glob("*.mode")) if (pair := _pair(mode.stem))}


def _pair(mode: str) -> tuple[str, str] | None:
    """``eng-spa`` → (``en``, ``es``), and ``en-eo`` of older packages; None for variants such as ``spa-eng_US``."""
    source, target = (_TAGS.get(code) or (code if len(code) == 2 else None) for code in mode.partition("-")[::2])
    return (source, target) if source and target else None
