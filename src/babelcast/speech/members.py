"""The backends that :mod:`babelcast.speech.failover` chooses from: which may be asked now, and what became of it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from babelcast.clock import Clock
from babelcast.errors import SpeechError, SpeechUnavailableError
from babelcast.spec import BackendSpec
from babelcast.speech.base import ClosedEvent, SpeechBackend, SpeechEvent, SpeechSession, SpeechTarget
from babelcast.speech.cost import Budget
from babelcast.units import NS_PER_S

log = logging.getLogger(__name__)

BUDGET_CODE = "budget"
"""``code`` where the cost ceiling is the reason."""
_MAX_BUFFERED = 256


@dataclass(frozen=True, slots=True)
class FailoverSettings:
    replay_s: float = 10.0
    """The most sound that is sent again; FailoverBackend's ``in_time_from`` may make it less."""
    steady_s: float = 10.0
    """A backend that spoke this long is opened once more before the next is taken."""
    reopen_s: float = 1.5
    """How long that may take."""
    hold_s: float = 20.0
    """A backend that failed is left alone for this long; twice as long after every relapse."""
    max_hold_s: float = 320.0
    well_s: float = 120.0
    """A backend that spoke this long has no past."""
    refused_s: float = 300.0
    """A backend that refused for good (a wrong key, no such language) is asked again after this."""
    proof_s: float = 3.0
    """So much source has the next one dealt with before it takes over from one that works."""
    proof_within_s: float = 20.0


@dataclass(slots=True)
class Member:
    """One of the backends, in its breaker. The rest is its past, shared by the sessions of one FailoverBackend."""

    backend: SpeechBackend
    budget: Budget | None = None
    not_before_ns: int = 0
    hold_s: float = 0.0
    why: str = ""

    def refusal(self, now_ns: int) -> SpeechUnavailableError | None:
        """Why it is not to be asked now."""
        if self.budget is not None and self.budget.reached(now_ns):
            usd = self.budget.usd_per_hour
            return SpeechUnavailableError(
                f"{self.backend.name}: the cost ceiling of ${usd:g} an hour is reached",
                code=BUDGET_CODE,
                retry_after_s=self.budget.wait_s(now_ns),
            )
        if now_ns < self.not_before_ns:
            return SpeechUnavailableError(
                f"{self.backend.name} is left alone: {self.why}",
                code="internal",
                retry_after_s=(self.not_before_ns - now_ns) / NS_PER_S,
            )
        return None

    def failed(self, why: str, now_ns: int, settings: FailoverSettings, *, final: bool) -> None:
        self.why = why
        self.hold_s = min(max(settings.hold_s, 2 * self.hold_s), settings.max_hold_s)
        self.not_before_ns = now_ns + round((settings.refused_s if final else self.hold_s) * NS_PER_S)


@dataclass(slots=True)
class Slot:
    """A member's open session."""

    index: int
    session: SpeechSession
    opened_ns: int
    reason: str | None = None
    start_ns: int | None = None
    """Source time of the first frame it heard."""
    progress_ns: int = -1
    buffer: deque[SpeechEvent] = field(default_factory=lambda: deque(maxlen=_MAX_BUFFERED))
    closed: ClosedEvent | None = None
    reader: asyncio.Task[None] | None = None


class Pool:
    """``members`` in the order of preference."""

    def __init__(self, members: Sequence[Member], settings: FailoverSettings, clock: Clock) -> None:
        self.members = tuple(members)
        self.settings = settings
        self.clock = clock

    async def open_slot(self, target: SpeechTarget, first: int | None) -> Slot:
        """The first member that opens; ``first`` is asked before all others, but not for long."""
        errors: list[SpeechError] = []
        if first is not None and self.members[first].refusal(self.clock.now_ns()) is None:
            try:
                async with asyncio.timeout(self.settings.reopen_s):
                    return await self.open_member(first, target)
            except TimeoutError:
                self._failed(first, SpeechUnavailableError("it does not answer", code="deadline"))
            except SpeechError as error:
                errors.append(error)
        held: list[int] = []
        for index, member in enumerate(self.members):
            refusal = member.refusal(self.clock.now_ns())
            if refusal is None:
                slot = await self._try(index, target, errors)
                if slot is not None:
                    return slot
            elif refusal.code == BUDGET_CODE:
                errors.append(refusal)
            else:
                held.append(index)
        # to leave one alone is only a preference
        for index in held:
            slot = await self._try(index, target, errors)
            if slot is not None:
                return slot
        raise hopeful(errors)

    async def _try(self, index: int, target: SpeechTarget, errors: list[SpeechError]) -> Slot | None:
        try:
            slot = await self.open_member(index, target)
        except SpeechError as error:
            errors.append(error)
            return None
        slot.reason = str(errors[0]) if errors else self.members[0].why or None if index else None
        return slot

    async def open_member(self, index: int, target: SpeechTarget) -> Slot:
        try:
            session = await self.members[index].backend.open(target)
        except SpeechError as error:
            self._failed(index, error)
            raise
        except Exception as error:  # a bug in this client is no reason to do without the others
            log.exception("speech session failed", extra={"streamId": target.stream_id})
            failed = SpeechUnavailableError(f"the speech client failed: {error}", code="internal")
            self._failed(index, failed)
            raise failed from error
        return Slot(index, session, self.clock.now_ns())

    def _failed(self, index: int, error: SpeechError) -> None:
        # a breaker's refusal has its own time; it is no failure more
        if not isinstance(error, SpeechUnavailableError) or error.retry_after_s is None:
            final = not error.retryable
            self.members[index].failed(str(error), self.clock.now_ns(), self.settings, final=final)


def hopeful(errors: Sequence[SpeechError]) -> SpeechError:
    """What to say where nobody can be opened: something that may pass before what never will, and a spent budget only
    where there is no other reason."""
    may_pass = [error for error in errors if error.retryable]
    if not may_pass:
        return errors[0] if errors else SpeechUnavailableError("no backend", code="internal")
    waits = [error.retry_after_s if isinstance(error, SpeechUnavailableError) else None for error in may_pass]
    known = [wait for wait in waits if wait is not None]
    other = [error for error in may_pass if error.code != BUDGET_CODE]
    said = other[0] if other else may_pass[0]
    wait_s = min(known) if len(known) == len(waits) else None
    return SpeechUnavailableError(str(said), code=said.code, retry_after_s=wait_s)


def budgets_of(specs: Sequence[BackendSpec]) -> list[Budget | None]:
    """A stream's budgets, by its backends' specs."""
    return [Budget(spec.budget_usd_per_hour) if spec.budget_usd_per_hour else None for spec in specs]
