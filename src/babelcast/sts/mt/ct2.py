"""Translation with CTranslate2: OPUS-MT (one pair a model), NLLB and MADLAD (many languages in one).

The families differ in how they are told the languages and in whose tokens they want; :class:`Layout` says it. The
model is loaded once and used by all sessions, whose clauses go into common batches (:mod:`babelcast.sts.batching`).
"""

from __future__ import annotations

import importlib.util
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from babelcast.errors import ConfigError, MissingDependencyError, SpeechError, UnsupportedLanguageError
from babelcast.models.cache import resolve
from babelcast.models.manifest import Manifest, read_manifest
from babelcast.sts.batching import Answers, BatchSettings, BatchStats, BlockingBatcher
from babelcast.sts.device import Compute
from babelcast.sts.mt.base import primary
from babelcast.sts.mt.languages import flores, madlad, many_pairs

_EOS = "</s>"
_SPECIAL = re.compile(r"</?(s|unk|pad|2\w+)>|>>\w+<<|[a-z]{3}_[A-Z][a-z]{3}")
"""Tokens that are not text: ends, and codes of languages."""
_MAX_TEXT = 2_000
_MAX_TOKENS = 400
_SHORTEST_LIMIT = 128


@dataclass(frozen=True, slots=True)
class Layout:
    """How a family wants its source. ``source_model`` and ``target_model`` are its SentencePiece files.

    ``head(source, target)``: tokens before the source's. ``text(text, target)``: what is tokenised.
    ``forced(target)``: tokens that the answer begins with, which are not part of it.
    """

    source_model: str
    target_model: str
    head: Callable[[str, str], list[str]]
    text: Callable[[str, str], str]
    forced: Callable[[str], list[str]]


def layout(manifest: Manifest) -> Layout:
    """The layout of a model's family. Raises ConfigError for one that is not a translation model."""
    tokens = manifest.target_tokens

    def opus_head(source: str, target: str) -> list[str]:
        token = tokens.get(target.lower()) or tokens.get(primary(target))
        return [token] if token else []

    layouts = {
        "marian": Layout("source.spm", "target.spm", opus_head, lambda text, target: text, lambda target: []),
        "nllb": Layout(
            "sentencepiece.bpe.model",
            "sentencepiece.bpe.model",
            lambda source, target: [flores(source) or ""],
            lambda text, target: text,
            lambda target: [flores(target) or ""],
        ),
        # the language is part of the text, not a token in front of it: that would lose the word boundary behind it
        "madlad": Layout(
            "spiece.model",
            "spiece.model",
            lambda source, target: [],
            lambda text, target: f"<2{madlad(target)}> {text}",
            lambda target: [],
        ),
    }
    if manifest.family not in layouts:
        raise ConfigError(f"{manifest.name} is no CTranslate2 translation model ({manifest.family})")
    return layouts[manifest.family]


@dataclass(frozen=True, slots=True)
class Clause:
    """``tokens``: the source's; ``forced``: what the answer begins with; ``limit``: its tokens at most."""

    tokens: list[str]
    forced: list[str]
    limit: int


def answer_limit(source_tokens: int) -> int:
    """Tokens that an answer may have. A model that has lost its way goes on for ever, and speech is never three
    times as long as its source. Only a few limits, because clauses of a batch share theirs: 128, 256, 512, …"""
    limit = _SHORTEST_LIMIT
    while limit < 3 * source_tokens + 10:
        limit *= 2
    return limit


class Ct2Translator:
    """See :class:`babelcast.sts.mt.base.Translator`. ``model`` is a registry name or a folder with a manifest."""

    def __init__(
        self, model: str, compute: Compute | None = None, *, beam: int = 2, batch: BatchSettings | None = None
    ) -> None:
        for package in ("ctranslate2", "sentencepiece"):
            if importlib.util.find_spec(package) is None:
                raise MissingDependencyError(f"{package} is not installed", hint="pip install 'babelcast[engines]'")
        self._path = resolve(model, "mt")
        manifest = read_manifest(self._path)
        if manifest is None:
            raise ConfigError(
                f"{self._path} has no manifest.json, so its languages are not known",
                hint="docs/howto/models.md says what to write into it",
            )
        self._layout = layout(manifest)
        self._pairs = manifest.pairs or many_pairs()
        self._compute = compute or Compute()
        self._beam = beam
        self._batch = batch or BatchSettings()
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None
        self._closed = False
        self.name = f"ctranslate2 ({manifest.name})"
        self._batcher = BlockingBatcher(self.name, self.translate_batch, lambda clause: clause.limit, self._batch)

    @property
    def batches(self) -> BatchStats:
        return self._batcher.stats

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        return self._pairs

    def preload(self, source: str, target: str) -> None:
        self._check(source, target)
        self._load()

    def translate(self, text: str, source: str, target: str) -> str:
        self._check(source, target)
        if not text.strip():
            return ""
        clause = self.clause(text, source, target)
        found = self._batcher.call(clause)
        answer = [token for token in found[len(clause.forced) :] if not _SPECIAL.fullmatch(token)]
        decoded: str = self._load().target.decode(answer)
        return " ".join(decoded.replace("⁇", " ").split())

    def clause(self, text: str, source: str, target: str) -> Clause:
        """``text`` made ready for a batch."""
        loaded, layout = self._load(), self._layout
        pieces = loaded.source.encode(layout.text(text[:_MAX_TEXT], target), out_type=str)
        tokens = [*layout.head(source, target), *pieces[:_MAX_TOKENS], *loaded.tail]
        return Clause(tokens, layout.forced(target), answer_limit(len(tokens)))

    def translate_batch(self, batch: list[Clause]) -> Answers[list[str]]:
        """The answers' tokens, one call of the model: clauses with the same limit. Raises SpeechError."""
        try:
            results = self._load().translator.translate_batch(
                [clause.tokens for clause in batch],
                target_prefix=[clause.forced for clause in batch] if batch[0].forced else None,
                beam_size=self._beam,
                max_decoding_length=batch[0].limit,
                no_repeat_ngram_size=4,
            )
        except (RuntimeError, ValueError) as error:
            raise SpeechError(f"ctranslate2 failed: {error}", code="engine_failed", retryable=True) from error
        return [result.hypotheses[0] for result in results]

    def close(self) -> None:
        with self._lock:
            self._closed, self._loaded = True, None
        self._batcher.close()

    def _check(self, source: str, target: str) -> None:
        if (primary(source), primary(target)) not in self._pairs:
            here = ", ".join("-".join(pair) for pair in self._pairs[:20])
            raise UnsupportedLanguageError(
                f"{self.name} does not translate from {source} to {target}",
                code="unsupported_language",
                hint=f"here: {here}{' …' if len(self._pairs) > 20 else ''}",
            )

    def _load(self) -> _Loaded:
        with self._lock:
            if self._closed:
                raise SpeechError("the service is stopping", code="overloaded", retryable=True)
            if self._loaded is None:
                self._loaded = load(self._path, self._layout, self._compute, self._batch.workers)
            return self._loaded


@dataclass(frozen=True, slots=True)
class _Loaded:
    translator: Any
    source: Any
    target: Any
    tail: list[str]
    """What the source must end with, where CTranslate2 does not add it."""


def load(path: Path, layout: Layout, compute: Compute, workers: int) -> _Loaded:
    """Load a model's folder. Raises MissingDependencyError where it is not whole."""
    import ctranslate2
    import sentencepiece

    for name in ("model.bin", layout.source_model, layout.target_model):
        if not (path / name).is_file():
            raise MissingDependencyError(
                f"{path} is not whole: no {name}", hint=f"babelcast models pull {path.name} --again"
            )
    try:
        translator = ctranslate2.Translator(
            str(path),
            device=compute.device_name(),
            compute_type=compute.type_name(),
            inter_threads=workers,
            intra_threads=compute.threads,
        )
        source, target = (
            sentencepiece.SentencePieceProcessor(model_file=str(path / name))
            for name in (layout.source_model, layout.target_model)
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise MissingDependencyError(
            f"{path} can't be loaded: {error}", hint=f"babelcast models verify {path.name}"
        ) from error
    return _Loaded(translator, source, target, [] if _adds_eos(path) else [_EOS])


def _adds_eos(path: Path) -> bool:
    try:
        return bool(json.loads((path / "config.json").read_text()).get("add_source_eos"))
    except (OSError, ValueError):
        return False
