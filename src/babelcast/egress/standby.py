"""Has the slate ready before it is needed: made when a programme's format is known, and shared between destinations."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from babelcast.egress.slate import PictureFormat, picture_format
from babelcast.egress.wire import SlateSpec
from babelcast.errors import BabelcastError
from babelcast.rtmp.message import Message
from babelcast.slate.picture import Slate, make_slate
from babelcast.slate.silence import SilenceAac, silence_aac

log = logging.getLogger(__name__)

_KEPT = 8
_AGAIN_S = 60.0


class SlateMaker(Protocol):
    """Implemented by :class:`SlateCache`."""

    async def __call__(self, spec: SlateSpec, wanted: PictureFormat) -> tuple[Slate, SilenceAac]:
        """Raises BabelcastError."""
        ...


class SlateCache:
    """Makes each slate once, one at a time, and keeps the latest few."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[SlateSpec, PictureFormat], Slate] = OrderedDict()
        self._silence: SilenceAac | None = None
        self._one = asyncio.Lock()

    async def __call__(self, spec: SlateSpec, wanted: PictureFormat) -> tuple[Slate, SilenceAac]:
        async with self._one:
            if self._silence is None:
                self._silence = await silence_aac()
            key = (spec, wanted)
            if key not in self._kept:
                self._kept[key] = await make_slate(
                    wanted.width, wanted.height, wanted.frame_rate, text=spec.text, image=spec.image
                )
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return self._kept[key], self._silence


@dataclass(frozen=True, slots=True)
class Ready:
    """A slate that can be sent now, and the headers of the programme that it stands for."""

    slate: Slate
    silence: SilenceAac
    headers: tuple[Message, ...]


class Standby:
    """One destination's. ``run`` makes what :meth:`note` found to be wanted; ``ready`` is None until it is made, where
    no slate is configured, and where the programme's pictures are not H.264."""

    def __init__(self, spec: SlateSpec | None, make: SlateMaker, fields: dict[str, str]) -> None:
        self._spec = spec
        self._make = make
        self._fields = fields
        self._headers: tuple[Message, ...] = ()
        self._format: PictureFormat | None = None
        self._made: tuple[PictureFormat, Slate, SilenceAac] | None = None
        self._wanted = asyncio.Event()

    @property
    def ready(self) -> Ready | None:
        if self._made is None or self._made[0] != self._format:
            return None
        return Ready(self._made[1], self._made[2], self._headers)

    def note(self, headers: tuple[Message, ...]) -> None:
        """The headers that the programme has now."""
        if self._spec is None or headers == self._headers:
            return
        self._headers = headers
        self._format = picture_format(headers)
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            wanted = self._format
            if self._spec is None or wanted is None or (self._made is not None and self._made[0] == wanted):
                continue
            try:
                self._made = (wanted, *await self._make(self._spec, wanted))
                log.debug("the slate is ready: %dx%d", wanted.width, wanted.height, extra=self._fields)
            except Exception as error:  # also a fault of ours must not take the sessions along
                ours = None if isinstance(error, BabelcastError) else error
                what = "there will be no slate while the programme is away: %s"
                log.warning(what, error, exc_info=ours, extra=self._fields)
                await asyncio.sleep(_AGAIN_S)
                self._wanted.set()
