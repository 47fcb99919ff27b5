"""Which engines a service is made of: ``--asr faster-whisper:small --mt ctranslate2:opus-mt-en-es --tts sherpa:…``.

An engine is written ``KIND`` or ``KIND:MODEL``; MODEL is a name of ``babelcast models list`` or the folder of a model
of one's own. Several translators or synthesizers are tried in the order given: the first that has a language wins.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar

from babelcast.errors import ConfigError
from babelcast.models.cache import is_path
from babelcast.sts.asr.base import AsrEngine
from babelcast.sts.batching import Batching, BatchSettings
from babelcast.sts.chain import ChainEngine
from babelcast.sts.device import Compute
from babelcast.sts.engine import Engine
from babelcast.sts.mt.base import Term, Translator
from babelcast.sts.tts.base import Synthesizer
from babelcast.sts.vad import SileroV6Vad, SileroVad

ASR = ("pocketsphinx", "faster-whisper")
MT = ("apertium", "ctranslate2")
TTS = ("espeak-ng", "sherpa")


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """``text`` parsed: ``faster-whisper:small`` → kind ``faster-whisper``, model ``small``."""

    kind: str
    model: str | None

    @classmethod
    def parse(cls, text: str, known: Sequence[str]) -> EngineSpec:
        """Raises ConfigError for an engine that there is not, or that lacks its model."""
        kind, _, model = text.partition(":")
        if kind not in known:
            raise ConfigError(f"there is no engine {kind!r}", hint=f"known: {', '.join(known)}")
        needs_model = kind in {"faster-whisper", "ctranslate2", "sherpa"}
        if needs_model != bool(model):
            example = f"{kind}:MODEL, see babelcast models list" if needs_model else f"{kind} alone"
            raise ConfigError(f"{text}: {'no' if needs_model else 'a'} model is named", hint=f"write {example}")
        return cls(kind, model or None)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """``batch``: how the calls of several sessions are joined in neural engines; where an engine can't join them
    (sherpa-onnx), its ``workers`` are calls at once. ``asr_batch``: passes that a recogniser joins; None: as many on a
    GPU, and one on a CPU, where eight together take as long as one after the other (bench/batching.py), so that each
    would only be later. ``spares``: pocketsphinx decoders kept loaded."""

    asr: str = "pocketsphinx"
    mt: tuple[str, ...] = ("apertium",)
    tts: tuple[str, ...] = ("espeak-ng",)
    compute: Compute = field(default_factory=Compute)
    batch: BatchSettings = field(default_factory=BatchSettings)
    asr_batch: int | None = None
    spares: int = 1
    terms: tuple[Term, ...] = ()


class _Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=_Closable)


def build(settings: EngineSettings) -> ChainEngine:
    """The engine of a service. Models are looked for now and loaded at the first use (or ``preload``).

    Raises MissingDependencyError (the hint is the command that installs or pulls what is missing), ConfigError.
    """
    with contextlib.ExitStack() as undo:

        def owned(make: Callable[[], T]) -> T:
            made = make()
            undo.callback(made.close)
            return made

        asr = owned(partial(make_asr, settings))
        translators = [owned(partial(make_translator, text, settings)) for text in settings.mt]
        synthesizers = [owned(partial(make_synthesizer, text, settings)) for text in settings.tts]
        engine = ChainEngine(
            asr,
            _one_translator(translators),
            _one_synthesizer(synthesizers),
            terms=settings.terms,
            # the newer Silero comes with faster-whisper, and costs a tenth
            vad=SileroV6Vad if settings.asr.startswith("faster-whisper") else SileroVad,
            batches=[made.batches for made in (asr, *translators, *synthesizers) if isinstance(made, Batching)],
        )
        undo.pop_all()
        return engine


def engine_of(name: str, settings: EngineSettings) -> Engine:
    """``offline``: the chain that ``settings`` name; ``tone``: the mock. Raises as :func:`build`."""
    if name == "tone":
        from babelcast.sts.tone import ToneEngine

        return ToneEngine()
    if name != "offline":
        raise ConfigError(f"there is no engine {name!r}", hint="known: offline, tone")
    return build(settings)


def make_asr(settings: EngineSettings) -> AsrEngine:
    spec = EngineSpec.parse(settings.asr, ASR)
    if spec.model is None:
        from babelcast.sts.asr.pocketsphinx import PocketsphinxEngine

        return PocketsphinxEngine(settings.spares)
    from babelcast.sts.asr.whisper import WhisperEngine, WhisperSettings

    name = spec.model if is_path(spec.model) else f"faster-whisper-{spec.model.removeprefix('faster-whisper-')}"
    size = settings.asr_batch or (settings.batch.size if settings.compute.device_name() == "cuda" else 1)
    return WhisperEngine(name, settings.compute, WhisperSettings(batch=replace(settings.batch, size=size)))


def make_translator(text: str, settings: EngineSettings) -> Translator:
    spec = EngineSpec.parse(text, MT)
    if spec.model is None:
        from babelcast.sts.mt.apertium import ApertiumTranslator

        return ApertiumTranslator()
    from babelcast.sts.mt.ct2 import Ct2Translator

    return Ct2Translator(spec.model, settings.compute, batch=settings.batch)


def make_synthesizer(text: str, settings: EngineSettings) -> Synthesizer:
    spec = EngineSpec.parse(text, TTS)
    if spec.model is None:
        from babelcast.sts.tts.espeak import EspeakSynthesizer

        return EspeakSynthesizer()
    from babelcast.sts.tts.sherpa import SherpaSynthesizer

    return SherpaSynthesizer(spec.model, settings.compute, workers=settings.batch.workers)


def _one_translator(members: list[Translator]) -> Translator:
    from babelcast.sts.mt.several import Translators

    if not members:
        raise ConfigError("no translation engine is named", hint="--mt apertium, or --mt ctranslate2:MODEL")
    return members[0] if len(members) == 1 else Translators(members)


def _one_synthesizer(members: list[Synthesizer]) -> Synthesizer:
    from babelcast.sts.tts.several import Synthesizers

    if not members:
        raise ConfigError("no synthesis engine is named", hint="--tts espeak-ng, or --tts sherpa:MODEL")
    return members[0] if len(members) == 1 else Synthesizers(members)
