"""A peer that takes nothing for long is cut off: closing alone would wait for it to take what is buffered."""

from __future__ import annotations

import asyncio


class CutsStalled:
    """Before one of uvicorn's protocols, in the list of bases."""

    patience_s = 30.0
    _stalled: asyncio.TimerHandle | None = None
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        self._stalled = self._stalled or self.loop.call_later(self.patience_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._flowing()
        super().resume_writing()  # type: ignore[misc]

    def connection_lost(self, exc: Exception | None) -> None:
        self._flowing()
        super().connection_lost(exc)  # type: ignore[misc]

    def _flowing(self) -> None:
        if self._stalled:
            self._stalled.cancel()
            self._stalled = None
