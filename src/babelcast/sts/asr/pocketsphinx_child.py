"""The child process that holds one pocketsphinx decoder.

pocketsphinx keeps Python's GIL while it decodes (measured: two threads take as long as one after the other), so
each session's decoder lives in a process of its own and uses its own core.

Requests on stdin: :data:`HEADER` (operation, payload length) + payload. ``S`` start, ``F`` feed (payload: S16LE
mono 16 kHz) and nothing comes back; ``P`` partial and ``E`` end are answered on stdout by :data:`LENGTH` + JSON,
a list of ``[word, start_ms, end_ms, probability]``. End of stdin ends the process.
"""

from __future__ import annotations

import json
import os
import re
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

HEADER = struct.Struct("!cI")
LENGTH = struct.Struct("!I")

_FRAME_MS = 10
_VARIANT = re.compile(r"\(\d+\)$")
_SWEARING = re.compile(
    r"(bull)?shit(s|ty|ting)?[ (]|(mother)?fuck(s|ed|er|ers|ing)?[ (]|cunts?[ (]|bitch(es)?[ (]|ass(hole)?[ (]"
)


def words(decoder: Any, final: bool) -> list[tuple[str, int, int, float]]:
    """The decoder's words; fillers (``<sil>``, ``[NOISE]``, ``++UH++``) left out, variants (``to(2)``) merged."""
    if decoder.hyp() is None:
        return []
    return [
        (
            _VARIANT.sub("", segment.word),
            segment.start_frame * _FRAME_MS,
            (segment.end_frame + 1) * _FRAME_MS,
            round(min(segment.prob, 1.0), 4) if final else 1.0,
        )
        for segment in decoder.seg()
        if segment.word[0] not in "<[+"
    ]


def serve(decoder: Any, requests: BinaryIO, answers: BinaryIO) -> None:
    active = False

    def answer(found: list[tuple[str, int, int, float]]) -> None:
        body = json.dumps(found).encode()
        answers.write(LENGTH.pack(len(body)) + body)
        answers.flush()

    while header := requests.read(HEADER.size):
        operation, length = HEADER.unpack(header)
        payload = requests.read(length)
        if operation == b"S":
            if active:
                decoder.end_utt()
            decoder.start_utt()
            active = True
        elif operation == b"F" and active and payload:
            decoder.process_raw(payload)
        elif operation == b"P":
            answer(words(decoder, final=False) if active else [])
        elif operation == b"E":
            if active:
                decoder.end_utt()
            answer(words(decoder, final=True) if active else [])
            active = False


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not break the protocol
    from pocketsphinx import Decoder, get_model_path

    with tempfile.NamedTemporaryFile("w", suffix=".dict") as dictionary:
        dictionary.write(fit_for_air(Path(get_model_path("en-us/cmudict-en-us.dict")).read_text()))
        dictionary.flush()
        # Without the second, flat-lexicon pass an utterance ends in some 10 ms instead of 100 to 500 ms, for the same
        # error rate; maxhmmpf bounds the time per frame in noise.
        decoder = Decoder(loglevel="FATAL", fwdflat=False, maxhmmpf=5000, dict=dictionary.name)
    answers.write(LENGTH.pack(2) + b"[]")
    answers.flush()
    try:
        serve(decoder, sys.stdin.buffer, answers)
    except BrokenPipeError:
        os._exit(0)


def fit_for_air(dictionary: str) -> str:
    """A pronouncing dictionary without swear words: what this decoder hears as one is a ship or a sheet far more often,
    and its dub would be on air."""
    return "".join(line for line in dictionary.splitlines(keepends=True) if not _SWEARING.match(line))


if __name__ == "__main__":
    main()
