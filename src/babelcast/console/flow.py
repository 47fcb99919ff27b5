"""How much flows over a leg: bit rate and stall, from a byte counter. Pure."""

from __future__ import annotations

from collections import deque

STALLED_S = 8.0
"""Without a byte for so long a leg is stalled, though it is connected."""
_WINDOW_S = 4.0


class Flow:
    """One counter, as it is seen from time to time."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=64)
        self._moved_s: float | None = None

    def see(self, now_s: float, count: int | None) -> None:
        """``count`` bytes so far; None while nobody sends."""
        if count is None:
            self._seen.clear()
            self._moved_s = None
            return
        if not self._seen or count != self._seen[-1][1]:
            self._moved_s = now_s
        if self._seen and count < self._seen[-1][1]:  # another connection, counted anew
            self._seen.clear()
        self._seen.append((now_s, count))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - _WINDOW_S:
            self._seen.popleft()

    @property
    def kbps(self) -> float | None:
        """Over the last few seconds; None before it is known."""
        if len(self._seen) < 2 or self._seen[-1][0] <= self._seen[0][0]:
            return None
        (from_s, first), (to_s, last) = self._seen[0], self._seen[-1]
        return (last - first) * 8 / 1_000 / (to_s - from_s)

    def still_s(self, now_s: float) -> float:
        """For how long nothing has come; 0.0 where nobody sends."""
        return 0.0 if self._moved_s is None else max(0.0, now_s - self._moved_s)

    def stalled(self, now_s: float) -> bool:
        return self.still_s(now_s) >= STALLED_S
