"""What is shown while the source is lost: the last picture, then a slate, then the end.

The ladder's times are counted on air, from where the source's last picture and sound end. A source that is back
within the delay therefore leaves a gap on air exactly as long as it was away, and one that hangs with its socket
open is treated like one that has gone.

For the first 3 s of a hold nothing is sent: a viewer's player shows the last picture by itself, sound (silence)
keeps the session up, and most losses are over by then. A longer hold is sent, as a still of the last picture; a
slate always is.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from fractions import Fraction
from typing import Literal, NoReturn

from babelcast.errors import BabelcastError
from babelcast.slate.h264 import annexb, codec_data
from babelcast.slate.picture import Slate, make_slate
from babelcast.spec import SourceLossSpec
from babelcast.units import NS_PER_MS, NS_PER_S, AccessUnit

log = logging.getLogger(__name__)

Step = Literal["hold", "slate", "end"]
SlateMaker = Callable[..., Awaitable[Slate]]
"""As :func:`babelcast.slate.picture.make_slate`."""

_BARE_HOLD_NS = 3 * NS_PER_S
_PREPARE_AFTER_NS = 1_500 * NS_PER_MS
_MAX_GROUP = 32 << 20
_DEFAULT_SIZE = (1_280, 720)
_DEFAULT_RATE = Fraction(25)
_SIDE = re.compile(r"\b(width|height)=(?:\(int\))?(\d+)")
_RATE = re.compile(r"\bframerate=(?:\(fraction\))?(\d+)/(\d+)")


def step_at(spec: SourceLossSpec, lost_for_ns: int | None) -> Step | None:
    """The rung of the ladder, ``lost_for_ns`` after the source's end on air; None while it is there."""
    if lost_for_ns is None:
        return None
    if spec.end_after_s is not None and lost_for_ns >= spec.end_after_s * NS_PER_S:
        return "end"
    return "slate" if spec.slate and lost_for_ns >= spec.hold_s * NS_PER_S else "hold"


class SourceLoss:
    """Keeps what a still of the last picture is made of, has the stills made ahead of need, and says what to show.

    A still that can't be made is said once and left out: sound goes on alone then. Memory: one group of pictures
    (32 MiB at most; a longer one is not kept, and the hold stays bare), and two stills.
    """

    def __init__(self, spec: SourceLossSpec, make: SlateMaker = make_slate) -> None:
        self._spec = spec
        self._make = make
        self._group: list[AccessUnit] = []
        self._group_bytes = 0
        self._wake = asyncio.Event()
        self._held: Slate | None = None
        self._slate: Slate | None = None
        self._slate_format: tuple[int, int, Fraction] | None = None
        self._prepared = False
        self.step: Step | None = None
        self.losses = 0
        self.last_error: str | None = None

    def note(self, unit: AccessUnit) -> None:
        """A picture has come."""
        if unit.key:
            self._group, self._group_bytes = [], 0
        elif not self._group:
            return
        self._group.append(unit)
        self._group_bytes += len(unit.data)
        if self._group_bytes > _MAX_GROUP:
            self._group, self._group_bytes = [], 0

    def watch(self, silent_ns: int) -> None:
        """Nothing has come for ``silent_ns`` of wall time: the stills are made while the delay lasts."""
        if silent_ns < _PREPARE_AFTER_NS:
            self._prepared = False
        elif not self._prepared:
            self._prepared = True
            self._held = None
            self._wake.set()

    def advance(self, lost_for_ns: int | None) -> Slate | None:
        """What stands in for pictures now, the source having ended so long ago on air (None: it is there)."""
        step = step_at(self._spec, lost_for_ns)
        if step != self.step:
            if self.step is None:
                self.losses += 1
            level = logging.INFO if step is None else logging.WARNING
            log.log(level, "source on air again" if step is None else f"source lost on air: {step}", extra=_FIELDS)
            self.step = step
        if lost_for_ns is None or step is None or step == "end":
            return None
        if step == "slate":
            return self._slate
        return self._held if lost_for_ns >= _BARE_HOLD_NS else None

    async def run(self) -> NoReturn:
        """Make stills when they will be needed. Runs until it is cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            group = self._group
            if not group:
                continue  # a source without pictures needs none instead
            width, height, rate = wanted = _format_of(group)
            if self._spec.slate and self._slate_format != wanted:
                self._slate, self._slate_format = None, wanted
                image = self._spec.slate_image
                self._slate = await self._still(width, height, rate, text=self._spec.slate_text, image=image)
                if self._slate is None and image is not None:
                    self._slate = await self._still(width, height, rate, text=self._spec.slate_text)
                if self._slate is None:
                    self._slate_format = None  # at the next loss it is tried again
            if not self._spec.slate or self._spec.hold_s * NS_PER_S > _BARE_HOLD_NS:
                self._held = await self._still(width, height, rate, group=group)

    async def _still(
        self, width: int, height: int, rate: Fraction, *, group: list[AccessUnit] | None = None, **what: object
    ) -> Slate | None:
        try:
            if group is not None:
                what["background_annexb"] = await asyncio.to_thread(_stream_of, group)
            return await self._make(width, height, rate, **what)
        except Exception as error:  # also a fault of ours must not end the worker in the middle of a loss
            self.last_error = str(error)
            ours = None if isinstance(error, BabelcastError | ValueError | OSError) else error
            log.warning("no picture stands in for the source: %s", error, exc_info=ours, extra=_FIELDS)
            return None


_FIELDS = {"stage": "source-loss"}


def _stream_of(group: list[AccessUnit]) -> bytes:
    record = codec_data(group[0].caps)
    if record is None:
        raise ValueError("the source's pictures came without their codec's headers")
    return annexb(record, (unit.data for unit in group))


def _format_of(group: list[AccessUnit]) -> tuple[int, int, Fraction]:
    """Size and frame rate as the caps say; the rate else from the pictures' times. Usual values where neither does."""
    caps = group[0].caps
    sides = {name: int(value) for name, value in _SIDE.findall(caps)}
    width, height = sides.get("width", _DEFAULT_SIZE[0]), sides.get("height", _DEFAULT_SIZE[1])
    said = _RATE.search(caps)
    if said and int(said.group(1)) and int(said.group(2)):
        rate = Fraction(int(said.group(1)), int(said.group(2)))
    else:
        span = group[-1].dts_ns - group[0].dts_ns
        rate = Fraction(round((len(group) - 1) * NS_PER_S / span)) if len(group) > 5 and span > 0 else _DEFAULT_RATE
    return width, height, min(max(rate, Fraction(5)), Fraction(60))
