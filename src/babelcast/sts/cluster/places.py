"""Who has how much to do, as one router knows it. Pure; no Ray."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

R = TypeVar("R", bound=Hashable)

_LEANING_S = 5.0


@dataclass(frozen=True, slots=True)
class _Place:
    replica: Hashable
    until: float


class Places:
    """Requests by id, and the replica that each is at, or is likely to be given to. So four sessions that come at once
    are spread, though none of them is anywhere yet. Times in seconds."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}

    def ranked(self, replicas: Sequence[R], request: str | None, now: float) -> list[list[R]]:
        """``replicas`` in groups of equally busy ones, the least busy first; ``request`` leans to the first of all.

        Within a group whoever asks chooses by what else he knows. While others only lean, that would upset what they
        lean to, so then every group is of one."""
        self._places = {name: place for name, place in self._places.items() if place.until > now and name != request}
        busy = Counter(place.replica for place in self._places.values())
        levels = sorted({busy[replica] for replica in replicas})
        groups = [[replica for replica in replicas if busy[replica] == level] for level in levels]
        if any(place.until < math.inf for place in self._places.values()):
            groups = [[replica] for group in groups for replica in group]
        if groups and request is not None:
            self._places[request] = _Place(groups[0][0], now + _LEANING_S)
        return groups

    def given(self, request: str, replica: Hashable) -> None:
        self._places[request] = _Place(replica, math.inf)

    def ended(self, request: str) -> None:
        self._places.pop(request, None)
