"""docs/reference/faults.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.e2e.faults.stage import DELAY_S, Outcome

_COLUMNS = (
    "fault",
    "what was done",
    "lasted",
    "gap in pictures",
    "gap in sound",
    "programme away",
    "in all",
    "well again after",
    "sessions",
    "what was said",
)

_SERVERS = {"relay": "the embedded relay", "mediamtx": "MediaMTX"}
_HEAD = """# What happens when something breaks

Written by `make faults` (on MACHINE); don't edit. Each line is one fault in a running `babelcast up` (delay DELAY s,
320×180 at 25 pictures a second), seen by a destination that records what arrives. Gaps are the longest time
between two arrivals, in seconds, from just before the fault until everything is well again. An undisturbed stream has
about 0.1 in both: it is sent every 50 ms, sound in blocks of 100 ms.

"""

_FOOT = """
## What the columns mean

*Lasted*: until it was mended; for a process that is killed, until that was noticed. *Programme away*: the longest time
without a picture of the programme itself; the last picture or a slate stood in for it. *In all*: the sum of all such
times of more than 0.3 s. *Well again after*: from the mending until the dub is on air, the destination is live and no
error is shown. *Sessions*: how many the destination saw; 1 means that nobody hung up.

A source that is lost costs no sound: silence goes on in its place. At the moment of the loss it comes up to half a
second late, once, for the muxer waits as long for a picture that may only be late; its timestamps have no gap. The last
picture stands for two seconds (`source_loss.hold_s`), in which nothing need be sent; then the slate is.

After a killed worker the original is heard until the next one has a dub again: of the last 3.5 s before the kill, as
far as they are on air two seconds later or more (with the usual delay of 6 s), and of all that comes.

The bad lines are made by a proxy ([tests/fakes/fault_proxy.py](../../tests/fakes/fault_proxy.py)) in front of real
sockets: a lost segment comes 300 ms late and what is behind it waits, as in TCP. They are not made by `tc netem`: the
kernel of the machine that this was written on has none.
"""


def write_page(path: Path, outcomes: Mapping[str, Sequence[Outcome]]) -> None:
    """``outcomes`` by media server."""
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    head = _HEAD.replace("MACHINE", machine).replace("DELAY", f"{DELAY_S:g}")
    tables = [f"## With {_SERVERS[server]}\n\n{_table(rows)}" for server, rows in outcomes.items() if rows]
    path.write_text(head + "\n".join(tables) + _FOOT)


def _table(outcomes: Sequence[Outcome]) -> str:
    rows = [
        f"| {one.name} | {one.what} | {one.lasted_s:.1f} | {one.gaps.picture:.2f} | {one.gaps.sound:.2f} "
        f"| {one.gaps.programme:.1f} | {one.gaps.away:.1f} | {one.recovered_s:.1f} | {one.gaps.sessions} "
        f"| {one.said.replace('|', '/')} |"
        for one in outcomes
    ]
    return f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|\n" + "\n".join(rows) + "\n"
