"""Text as CEA-608 byte pairs, channel CC1, roll-up of two lines. Pure.

Sources: ANSI/CTA-608-E, 5 (characters), 6.4 (codes and parity), 7.4 (roll-up). Western European languages have all
their letters; of others what is lacking is spelt without accents, and a text in another script can't be sent at all.
"""

from __future__ import annotations

import textwrap
import unicodedata
from functools import cache

Pair = tuple[int, int]
"""Two bytes with odd parity, the load of one frame."""

COLUMNS = 32
NULL: Pair = (0x80, 0x80)

_BASIC_OTHER = {0x2A: "á", 0x5C: "é", 0x5E: "í", 0x5F: "ó", 0x60: "ú", 0x7B: "ç", 0x7C: "÷", 0x7D: "Ñ", 0x7E: "ñ"}
_SPECIAL = "®°½¿™¢£♪à\0èâêîôû"
"""From (0x11, 0x30) on; NUL for the transparent space."""
_EXTENDED = (
    "ÁÉÓÚÜü‘¡*\0—©℠•“”ÀÂÇÈÊËëÎÏïÔÙùÛ«»",  # (0x12, 0x20): Spanish, miscellaneous, French
    "ÃãÍÌìÒòÕõ{}\\^_|~ÄäÖöß¥¤¦ÅåØø┌┐└┘",  # (0x13, 0x20): Portuguese, German, Danish
)
_SPELT = {
    **{
        "…": "...",
        "–": "—",
        "―": "—",
        "’": "'",
        "‚": "'",
        "´": "'",
        "`": "'",
        "„": "“",
        "‹": "<",
        "›": ">",
        "€": "EUR",
    },
    **{"œ": "oe", "Œ": "OE", "æ": "ae", "Æ": "AE", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D"},
    **{"þ": "th", "Þ": "Th", "ı": "i", "ẞ": "SS", "\u00a0": " ", "\u202f": " ", "\u2009": " ", "ª": "a", "º": "°"},
}
_UNDER = {"¡": "!", "“": '"', "”": '"', "«": '"', "»": '"', "‘": "'", "—": "-", "ß": "s", "ø": "o", "Ø": "O", "©": "c"}
"""What decoders without the extended sets show instead, where taking the accent off gives nothing."""

_ROLL_UP_2: Pair = (0x14, 0x25)
_CARRIAGE_RETURN: Pair = (0x14, 0x2D)
_ROW_15: Pair = (0x14, 0x70)
_ERASE_DISPLAYED: Pair = (0x14, 0x2C)


def with_parity(byte: int) -> int:
    """Bit 7 set so that the number of ones is odd."""
    return byte & 0x7F | (0 if (byte & 0x7F).bit_count() % 2 else 0x80)


def spelt(text: str) -> tuple[str, int]:
    """``text`` in characters that CEA-608 has, and how many letters of it are lost."""
    found, lost = [], 0
    for char in unicodedata.normalize("NFC", text):
        spelling = _spelling(char)
        found.append(spelling)
        lost += not spelling and char.isalnum()
    return " ".join("".join(found).split()), lost


def sendable(text: str) -> bool:
    """Whether next to all of its letters can be sent."""
    letters = sum(char.isalnum() for char in text)
    return bool(text.strip()) and spelt(text)[1] * 20 <= letters


def lines(text: str) -> list[str]:
    """``text`` as it is spelt, in lines of 32 columns at most."""
    return textwrap.wrap(spelt(text)[0], COLUMNS, break_on_hyphens=False)


def line_pairs(line: str) -> list[Pair]:
    """A new bottom line that reads ``line``; the one before rolls up. Codes are sent twice, as receivers expect."""
    return [*_twice(_ROLL_UP_2), *_twice(_CARRIAGE_RETURN), *_twice(_ROW_15), *_text_pairs(line)]


def erase_pairs() -> list[Pair]:
    """Nothing is shown from then on."""
    return _twice(_ERASE_DISPLAYED)


def _twice(code: Pair) -> list[Pair]:
    return [(with_parity(code[0]), with_parity(code[1]))] * 2


@cache
def _codes() -> dict[str, int | Pair]:
    """Character → a byte of the basic set, or the code of another one."""
    odd = set(_BASIC_OTHER) | {0x7F}
    known: dict[str, int | Pair] = {chr(byte): byte for byte in range(0x20, 0x7F) if byte not in odd}
    known |= {char: byte for byte, char in _BASIC_OTHER.items()}
    known |= {char: (0x11, 0x30 + index) for index, char in enumerate(_SPECIAL) if char != "\0"}
    for first, chars in enumerate(_EXTENDED, 0x12):
        known |= {char: (first, 0x20 + index) for index, char in enumerate(chars) if char != "\0"}
    return known


def _spelling(char: str) -> str:
    if char in _codes():
        return char
    if char in _SPELT:
        return _SPELT[char]
    if char.isspace():
        return " "
    return "".join(part for part in unicodedata.normalize("NFKD", char) if part in _codes())


def _under(char: str) -> int:
    """The basic character that an extended one replaces."""
    for candidate in (_UNDER.get(char, ""), *unicodedata.normalize("NFKD", char)):
        code = _codes().get(candidate)
        if isinstance(code, int):
            return code
    return ord(" ")


def _text_pairs(line: str) -> list[Pair]:
    pairs: list[Pair] = []
    held: int | None = None
    for char in line:
        code = _codes()[char]
        if isinstance(code, tuple) and code[0] != 0x11:  # extended: goes over a basic one
            pairs, held = _with_basic(pairs, held, _under(char))
        if isinstance(code, int):
            pairs, held = _with_basic(pairs, held, code)
            continue
        if held is not None:
            pairs.append((with_parity(held), NULL[1]))
            held = None
        pairs += _twice(code)
    if held is not None:
        pairs.append((with_parity(held), NULL[1]))
    return pairs


def _with_basic(pairs: list[Pair], held: int | None, byte: int) -> tuple[list[Pair], int | None]:
    if held is None:
        return pairs, byte
    return [*pairs, (with_parity(held), with_parity(byte))], None
