"""Whether one more session would still be dubbed in time. Pure.

Each session is measured: seconds of work a second of sound, its real-time factor. One more is let in where the factors
of those that there are and the factor that it can be expected to have go into what the machine can do, with some room
left for bursts; and where nobody waits already.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_HALF_LIFE_S = 20.0
_SETTLED_S = 5.0
"""Sound after which a session's own factor is believed."""


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """``capacity``: seconds of work that get done in a second: the cores, or what a card was measured to do."""

    capacity: float
    room: float = 0.8
    """Share of the capacity that is given away."""
    max_wait_s: float = 2.0
    """Sound of a session that waits: from here on nobody else is let in."""


class Factor:
    """A session's real-time factor: of late, weighted by the sound that it was measured on."""

    def __init__(self) -> None:
        self._audio_s = self._busy_s = 0.0
        self.heard_s = 0.0

    def add(self, audio_s: float, busy_s: float) -> None:
        keep = 0.5 ** (audio_s / _HALF_LIFE_S)
        self._audio_s = self._audio_s * keep + audio_s
        self._busy_s = self._busy_s * keep + busy_s
        self.heard_s += audio_s

    @property
    def value(self) -> float:
        return self._busy_s / self._audio_s if self._audio_s else 0.0

    @property
    def settled(self) -> bool:
        return self.heard_s >= _SETTLED_S


def refusal(
    settings: AdmissionSettings, factors: Iterable[Factor], expected: float | None, waiting_s: float
) -> str | None:
    """Why one more session can't be taken; None where it can. ``expected``: what sessions here have needed so far, None
    where that is not known; ``waiting_s``: the most sound that waits in any session."""
    if waiting_s > settings.max_wait_s:
        return f"sessions are {waiting_s:.0f} s behind"
    if expected is None:
        return None
    needed = expected + sum(factor.value if factor.settled else expected for factor in factors)
    if needed > settings.capacity * settings.room:
        return f"it would need {needed:.1f} of {settings.capacity:g} seconds of work a second"
    return None
