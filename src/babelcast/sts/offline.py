"""The engine that needs no model download and no network: Silero VAD → pocketsphinx → apertium → espeak-ng."""

from __future__ import annotations

from babelcast.sts.asr.pocketsphinx import PocketsphinxEngine
from babelcast.sts.chain import ChainEngine, place
from babelcast.sts.mt.apertium import ApertiumTranslator
from babelcast.sts.tts.espeak import EspeakSynthesizer

__all__ = ["OfflineEngine", "place"]


class OfflineEngine(ChainEngine):
    """See :class:`babelcast.sts.engine.Engine`. ``spares`` recognisers (135 MB each) are kept loaded."""

    def __init__(self, spares: int = 1) -> None:
        super().__init__(PocketsphinxEngine(spares), ApertiumTranslator(), EspeakSynthesizer())
