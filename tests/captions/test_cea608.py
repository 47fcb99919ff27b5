"""Closed captions: their bytes, their place in the access units, and what ffmpeg reads of them."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest

from babelcast.captions import cea608, sei
from babelcast.captions.cea608 import NULL
from babelcast.captions.cues import Cue
from babelcast.captions.track import REORDER, CaptionTrack
from babelcast.units import AccessUnit
from tests.captions.flv import FlvVideo
from tests.captions.test_cues import entry

unit = pytest.mark.unit
integration = pytest.mark.integration

AVC = "video/x-h264, stream-format=(string)avc, codec_data=(buffer)01640028ffe1"
FRAME = 33_333_333


def picture(index: int, payload: bytes = b"\x65picture") -> AccessUnit:
    return AccessUnit(index * FRAME, index * FRAME, index == 0, len(payload).to_bytes(4, "big") + payload, AVC)


def nals(data: bytes, size: int = 4) -> list[bytes]:
    found, position = [], 0
    while position < len(data):
        end = position + size + int.from_bytes(data[position : position + size], "big")
        found.append(data[position + size : end])
        position = end
    return found


def pairs_of(units: list[AccessUnit]) -> list[tuple[int, int] | None]:
    """The pair in field 1 of each picture, in the order in which they are shown; None where it isn't valid."""
    found = []
    for each in sorted(units, key=lambda each: each.pts_ns):
        (message,) = [load for nal in nals(each.data) if nal[0] == 6 for _, load in sei.messages(nal)]
        first = message[len(b"\xb5\0\x31GA94\x03") + 2 :]
        found.append((first[1], first[2]) if first[0] == 0xFC else None)
    return found


@unit
def test_parity_is_odd() -> None:
    assert all(cea608.with_parity(byte).bit_count() % 2 == 1 for byte in range(256))
    assert cea608.line_pairs("ab")[:6] == [(0x94, 0x25)] * 2 + [(0x94, 0xAD)] * 2 + [(0x94, 0x70)] * 2
    assert cea608.line_pairs("ab")[6:] == [(0x61, 0x62)]


@unit
def test_special_characters_are_codes_and_extended_ones_lie_over_a_plain_one() -> None:
    def text(line: str) -> list[tuple[int, int]]:
        return [(first & 0x7F, second & 0x7F) for first, second in cea608.line_pairs(line)[6:]]

    assert text("ñé") == [(0x7E, 0x5C)], "in the basic set"
    assert text("a¿") == [(0x61, 0x00), (0x11, 0x33), (0x11, 0x33)]
    assert text("Á") == [(0x41, 0x00), (0x12, 0x20), (0x12, 0x20)]
    assert text("ß!") == [(0x73, 0x00), (0x13, 0x34), (0x13, 0x34), (0x21, 0x00)]


@unit
@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("¿Cómo está? ¡Muy bien!", "¿Cómo está? ¡Muy bien!"),
        ("L’œuvre d’été – déjà vu…", "L'oeuvre d'été — déjà vu..."),
        ("Größe, Äpfel, Übung", "Größe, Äpfel, Übung"),
        ("Não, avô à mão", "Não, avô à mão"),
        ("Łódź, Dvořák, Şişli", "Lódz, Dvorák, Sisli"),
        ("cafe\u0301 5 €", "café 5 EUR"),
    ],
)
def test_what_the_alphabet_has_is_sent_and_the_rest_is_spelt_otherwise(text: str, spelling: str) -> None:
    assert cea608.spelt(text) == (spelling, 0)
    assert cea608.sendable(text)


@unit
@pytest.mark.parametrize("text", ["Привет", "你好", "مرحبا", "Γειά σου", "  "])
def test_another_script_is_not_sent_in_pieces(text: str) -> None:
    assert not cea608.sendable(text)
    track = CaptionTrack("xx", own="xx", source="en")
    track.add(Cue(0.0, 1.0, text))
    assert track.skipped == 1
    assert set(pairs_of(track.encode([picture(i) for i in range(20)], []))) == {NULL}


@unit
def test_the_sei_stands_in_front_of_the_first_slice_and_nothing_else_changes() -> None:
    parts = [b"\x09\xf0", b"\x67sps", b"\x68pps", b"\x65slice one", b"\x65slice two"]
    data = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    found = nals(sei.with_captions(data, 4, sei.cc_data((0x94, 0x25), 1 / 30)))
    assert found[:3] + found[4:] == parts
    assert found[3][0] == 6
    ((kind, load),) = sei.messages(found[3])
    assert kind == 4 and load.startswith(b"\xb5\0\x31GA94\x03")
    assert load[8] == 0xC0 | 20 and len(load) == 10 + 20 * 3 + 1, "20 triplets at 30 pictures a second"


@unit
@pytest.mark.parametrize(("rate", "count"), [(24, 25), (25, 24), (30, 20), (50, 12), (60, 10), (5, 31), (400, 2)])
def test_triplets_make_9600_bits_a_second(rate: int, count: int) -> None:
    assert sei.cc_data(NULL, 1 / rate)[8] & 31 == count


@unit
def test_emulation_is_prevented_and_undone() -> None:
    rng = random.Random(608)
    for _ in range(300):
        load = bytes(rng.choice((0, 0, 0, 1, 2, 3, 4, 255)) for _ in range(rng.randrange(1, 600)))
        nal = sei.sei_nal(4, load)
        assert not re.search(rb"\x00\x00[\x00-\x02]", nal)
        assert sei.messages(nal) == [(4, load)]


@unit
def test_the_sources_own_captions_make_room_and_other_messages_stay() -> None:
    own = sei.sei_nal(4, sei.cc_data((0x94, 0x2C), 1 / 30))
    other = sei.sei_nal(5, b"x264, or a clock")
    both = own[:1] + own[1:-1] + other[1:]
    slice_nal = b"\x65slice"
    data = b"".join(len(part).to_bytes(4, "big") + part for part in (own, other, both, slice_nal))
    found = nals(sei.with_captions(data, 4, sei.cc_data(NULL, 1 / 30)))
    assert [sei.messages(nal) for nal in found[:2]] == [[(5, b"x264, or a clock")]] * 2
    assert len(found) == 4 and found[3] == slice_nal


@unit
@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\0\0\0\0", b"\0\0\0\xff\x65", b"\xff\xff\xff\xff\x65x", b"\0\0\0\2\x06"]
)
def test_what_can_not_be_read_leaves_as_it_came(data: bytes) -> None:
    assert sei.with_captions(data, 4, b"x") == data


@unit
@pytest.mark.parametrize("caps", ["video/x-h265, codec_data=(buffer)01", "video/x-h264, stream-format=byte-stream", ""])
def test_other_codecs_leave_as_they_came(caps: str) -> None:
    unit = AccessUnit(0, 0, True, b"\0\0\0\2\x65x", caps)
    assert CaptionTrack("es", own="es", source="en").encode([unit], []) == [unit]


@unit
def test_pairs_go_in_the_order_in_which_pictures_are_shown() -> None:
    order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]
    track = CaptionTrack("es", own="es", source="en")
    track.add(Cue(0.0, 1.0, "abcd"))
    units = [picture(index) for index in order]
    made = []
    for index in range(len(units)):  # one by one, as on a fast tick
        made += track.encode(units[index : index + 1], units[index + 1 : index + 1 + REORDER])
    assert pairs_of(made)[:8] == cea608.line_pairs("abcd")


@unit
def test_codes_and_their_repetition_stand_side_by_side_at_sixty_pictures_a_second() -> None:
    track = CaptionTrack("es", own="es", source="en")
    track.add(Cue(0.0, 1.0, "ab"))
    units = [AccessUnit(round(i * 1e9 / 60), round(i * 1e9 / 60), not i, picture(0).data, AVC) for i in range(40)]
    found = pairs_of(track.encode(units, []))
    assert found[1::2] == [None] * 20
    assert [pair for pair in found if pair is not None][:7] == cea608.line_pairs("ab")


@unit
def test_which_segments_a_track_takes() -> None:
    def sent(track: CaptionTrack, language: str = "es") -> bool:
        track.take(entry(0.0, language=language))
        return set(pairs_of(track.encode([picture(i) for i in range(60)], []))) != {NULL}

    assert sent(CaptionTrack("es", own="es", source="en"))
    assert sent(CaptionTrack("es", own="de", source="en")), "another programme's language"
    assert sent(CaptionTrack("en", own="es", source="en")), "what was said"
    assert not sent(CaptionTrack("en", own="de", source="en")), "each programme's own, not everybody's"
    assert not sent(CaptionTrack("es", own="es", source="en"), "de")


@unit
def test_lines_that_wait_are_bounded_and_the_screen_is_cleared_in_the_end() -> None:
    track = CaptionTrack("es", own="es", source="en")
    for index in range(100):
        track.add(Cue(index / 100, index / 100 + 0.01, f"line {index}"))
    assert track.dropped == 68
    found = [pair for pair in pairs_of(track.encode([picture(i) for i in range(900)], [])) if pair != NULL]
    assert found[-2:] == cea608.erase_pairs()


# --- from outside ---


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen seconds with B-frames, 30 pictures a second, times rounded to a millisecond as in any FLV."""
    path = tmp_path_factory.mktemp("captions") / "in.flv"
    picture = ["-f", "lavfi", "-i", "testsrc2=s=128x96:r=30:d=14"]
    codec = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "3", "-g", "60", "-pix_fmt", "yuv420p"]
    subprocess.run(["ffmpeg", "-v", "error", *picture, *codec, str(path)], check=True)
    return path


SPOKEN = [
    Cue(1.0, 2.5, "Hola, buenos días."),
    Cue(4.0, 8.0, "¿Qué tal? El año pasado llovió mucho, ¡muchísimo! «Ça va», dit Zoë."),
    Cue(9.0, 10.0, "Größe, über Coração"),
]


def captioned(source: FlvVideo, cues: list[Cue], lead_s: float = 0.15) -> list[AccessUnit]:
    """As a worker does it: each cue is known ``lead_s`` before it is heard."""
    track, waiting, made = CaptionTrack("es", own="es", source="en"), list(cues), list[AccessUnit]()
    for index, unit in enumerate(source.units):
        while waiting and waiting[0].start_s - lead_s <= unit.dts_ns / 1e9:
            track.add(waiting.pop(0))
        made += track.encode([unit], source.units[index + 1 : index + 1 + REORDER])
    return made


def read_captions(path: Path) -> list[tuple[float, float, list[str]]]:
    """(start, end, lines on screen) of every change, by ffmpeg's decoder."""
    graph = f"movie={path}[out0+subcc]"
    command = ["ffmpeg", "-v", "error", "-copyts", "-f", "lavfi", "-i", graph, "-map", "0:s", "-f", "srt", "-"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = []
    for block in text.strip().split("\n\n"):
        _, times, *lines = re.sub(r"<[^>]*>|\{[^}]*\}", "", block).splitlines()
        start, end = (
            sum(float(part) * unit for part, unit in zip(each.replace(",", ".").split(":"), (3600, 60, 1), strict=True))
            for each in times.split(" --> ")
        )
        found.append((start, end, lines))
    return found


@integration
def test_ffmpeg_reads_the_text_when_it_is_heard_and_the_same_pictures(clip: Path, tmp_path: Path) -> None:
    source, out = FlvVideo(clip), tmp_path / "out.flv"
    source.write(out, captioned(source, SPOKEN))
    screens = read_captions(out)
    bottom = [(start, lines[-1]) for start, _, lines in screens]
    expected = [line for cue in SPOKEN for line in cea608.lines(cue.text)]
    assert [line for _, line in bottom] == expected
    begins = {line: start for start, line in bottom}
    for cue in SPOKEN:
        assert begins[cea608.lines(cue.text)[0]] == pytest.approx(cue.start_s, abs=0.5)
    last = begins[cea608.lines(SPOKEN[1].text)[-1]]
    assert 6.0 < last < 8.2, "the last line comes while the end is spoken"
    assert screens[-1][1] == pytest.approx(12.0, abs=0.5), "and the screen is cleared two seconds after"

    def pictures(path: Path) -> str:
        command = ["ffmpeg", "-v", "error", "-xerror", "-i", str(path), "-f", "framemd5", "-"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert done.stderr == ""
        return done.stdout

    assert pictures(out) == pictures(clip)


@integration
def test_without_captions_the_file_is_byte_for_byte_the_same(clip: Path, tmp_path: Path) -> None:
    source, out = FlvVideo(clip), tmp_path / "same.flv"
    source.write(out, source.units)
    assert out.read_bytes() == clip.read_bytes()
