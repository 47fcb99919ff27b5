"""What a cloud backend costs: seconds of sound in and out, by a price list. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from babelcast.units import NS_PER_S

_PER_HOUR_S = 3_600


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per second of sound. ``as_of`` is the day (ISO 8601) on which the list price was read."""

    usd_per_s_in: float
    usd_per_s_out: float
    as_of: str

    @classmethod
    def per_million_tokens(cls, usd_in: float, usd_out: float, tokens_per_s: float, as_of: str) -> Price:
        return cls(usd_in * tokens_per_s / 1e6, usd_out * tokens_per_s / 1e6, as_of)

    @classmethod
    def per_minute_in(cls, usd: float, as_of: str) -> Price:
        return cls(usd / 60, 0.0, as_of)

    @property
    def usd_per_hour(self) -> float:
        """A stream's hour: a second out for every second in."""
        return (self.usd_per_s_in + self.usd_per_s_out) * _PER_HOUR_S


GEMINI_TOKENS_PER_S = 25.0
GEMINI_LIVE = Price.per_million_tokens(3.50, 21.0, GEMINI_TOKENS_PER_S, "2026-11-21")
"""List price of audio tokens: $3.50 in, $21 out, per million."""


def gemini_price(listed: Price, usd_in: float | None, usd_out: float | None) -> Price:
    """``listed``, with what the config says (US dollars per million tokens) in its place."""
    if usd_in is None and usd_out is None:
        return listed
    given = Price.per_million_tokens(usd_in or 0.0, usd_out or 0.0, GEMINI_TOKENS_PER_S, "config")
    return Price(
        listed.usd_per_s_in if usd_in is None else given.usd_per_s_in,
        listed.usd_per_s_out if usd_out is None else given.usd_per_s_out,
        "config",
    )


OPENAI_TRANSLATE_USD_PER_MINUTE = 0.034
OPENAI_TRANSLATE = Price.per_minute_in(OPENAI_TRANSLATE_USD_PER_MINUTE, "2026-11-21")


class CostMeter:
    """Counts every second that was sent and that came, silence and overlaps of rotation too: they are charged."""

    def __init__(self, price: Price) -> None:
        self.price = price
        self.seconds_in = 0.0
        self.seconds_out = 0.0
        self._told = (0.0, 0.0)

    @property
    def usd(self) -> float:
        return self.seconds_in * self.price.usd_per_s_in + self.seconds_out * self.price.usd_per_s_out

    def take(self) -> tuple[float, float, float]:
        """(US dollars, seconds in, seconds out) since the last call."""
        seconds_in, seconds_out = self.seconds_in - self._told[0], self.seconds_out - self._told[1]
        self._told = (self.seconds_in, self.seconds_out)
        return seconds_in * self.price.usd_per_s_in + seconds_out * self.price.usd_per_s_out, seconds_in, seconds_out


class Budget:
    """A ceiling for an hour. Once it is reached it stays so until a tenth of the hour's money is free again, so that
    nobody moves back for a few seconds' worth.

    The hour slides in steps of a minute.
    """

    def __init__(self, usd_per_hour: float) -> None:
        self.usd_per_hour = usd_per_hour
        self._minutes: deque[tuple[int, float]] = deque()
        self._reached = False

    def add(self, usd: float, now_ns: int) -> None:
        minute = now_ns // (60 * NS_PER_S)
        if self._minutes and self._minutes[-1][0] == minute:
            self._minutes[-1] = (minute, self._minutes[-1][1] + usd)
        else:
            self._minutes.append((minute, usd))

    def spent(self, now_ns: int) -> float:
        """US dollars in the last hour."""
        oldest = now_ns // (60 * NS_PER_S) - 60
        while self._minutes and self._minutes[0][0] <= oldest:
            self._minutes.popleft()
        return sum(usd for _, usd in self._minutes)

    def reached(self, now_ns: int) -> bool:
        limit = self.usd_per_hour * (0.9 if self._reached else 1.0)
        self._reached = self.spent(now_ns) >= limit
        return self._reached

    def wait_s(self, now_ns: int) -> float:
        """Seconds until enough is free again, 0.0 where the ceiling is not reached."""
        if not self.reached(now_ns):
            return 0.0
        left = self.spent(now_ns)
        for minute, usd in self._minutes:
            left -= usd
            if left < 0.9 * self.usd_per_hour:
                return max(0.0, ((minute + 61) * 60 * NS_PER_S - now_ns) / NS_PER_S)
        return 0.0
