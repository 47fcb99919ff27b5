"""Every number of an interpreter's session."""

from __future__ import annotations

from dataclasses import dataclass, field

from babelcast.speech.lineage import LineageSettings


@dataclass(frozen=True, slots=True)
class InterpreterSettings:
    open_timeout_s: float = 5.0
    queue_s: float = 12.0
    """Sound that may wait to be sent; drop the oldest. A file is dubbed 10 s ahead."""
    catch_up: float = 2.0
    """Pace of sending while more than ``behind_s`` waits: after a reconnect, or for a file."""
    behind_s: float = 0.35
    gap_s: float = 0.3
    """Without source for this long, silence is sent: services want sound without gaps."""
    max_segment_s: float = 2.5
    """Longer speech is cut at its quietest place, so that the worker has it in time."""
    rotate_after_s: float = 540.0
    """A connection's life; services end it at about 10 min."""
    handover_wait_s: float = 3.0
    """How long a hand-over waits for a pause of the source."""
    drain_min_s: float = 4.0
    drain_max_s: float = 5.5
    """How long the old connection may go on speaking after a hand-over."""
    finish_max_s: float = 8.0
    """The same after the last sound of all."""
    reopen_pause_s: float = 4.0
    """Between two tries to open the next connection."""
    goaway_margin_s: float = 10.0
    """So long before the announced end the old connection is given up for a resumption, if no fresh one opened."""
    silent_s: float = 8.0
    """Without any message for this long the connection is dead."""
    mute_s: float = 8.0
    """So much speech sent, transcripts coming and no sound: the session has failed silently."""
    speech_dbfs: float = -50.0
    """Louder source may be speech; it also has to stand out of the quietest of the last 10 s by 9 dB."""
    audible_dbfs: float = -65.0
    output_dbfs: float = -50.0
    """Louder output is speech."""
    lineage: LineageSettings = field(default_factory=LineageSettings)
