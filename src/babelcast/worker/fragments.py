"""Bookkeeping by fragment: each gets an id and a batch number, and its way is timed stage by stage. Pure."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass

from babelcast.audio.chunk import Chunker
from babelcast.units import NS_PER_S, SPEECH_RATE, Fragment, SpeechFrame
from babelcast.worker.metrics import WorkerMetrics

log = logging.getLogger(__name__)

_MOST_OPEN = 64


@dataclass(slots=True)
class _Open:
    fragment: Fragment
    complete_ns: int  # wall time of its last sample
    dubbed: bool = False


class FragmentLog:
    """Stages: ``separate`` (last sample in the worker → separated), ``sts`` (→ every backend has dealt with it),
    ``air`` (→ rendered). Holds 64 fragments at most; the oldest is forgotten."""

    def __init__(self, stream_id: str, metrics: WorkerMetrics) -> None:
        self._chunker = Chunker(stream_id, rate=SPEECH_RATE, channels=1)
        self._metrics = metrics
        self._open: deque[_Open] = deque(maxlen=_MOST_OPEN)

    def push(self, frame: SpeechFrame, age_s: float, now_ns: int) -> None:
        """A frame that has just been separated; its last sample came into the worker ``age_s`` ago."""
        for fragment in self._chunker.push(frame.start_ns, frame.pcm):
            self._open.append(_Open(fragment, now_ns - round(age_s * NS_PER_S)))
            self._pass(fragment, "separate", max(0.0, age_s))

    def update(self, watermark_ns: int, playhead_ns: int, now_ns: int) -> None:
        """Tell how far the slowest backend and the playhead have come."""
        for item in self._open:
            if not item.dubbed and item.fragment.end_ns <= watermark_ns:
                item.dubbed = True
                self._pass(item.fragment, "sts", (now_ns - item.complete_ns) / NS_PER_S)
        while self._open and self._open[0].fragment.end_ns <= playhead_ns:
            item = self._open.popleft()
            self._pass(item.fragment, "air", (now_ns - item.complete_ns) / NS_PER_S)
        self._metrics.inflight(sum(not item.dubbed for item in self._open))

    def _pass(self, fragment: Fragment, stage: str, seconds: float) -> None:
        self._metrics.fragment(stage, seconds)
        log.debug(
            "fragment passed in %.3f s",
            seconds,
            extra={"stage": stage, "fragment.id": fragment.fragment_id, "batchNumber": fragment.sequence_number},
        )
