from __future__ import annotations

import pytest

from babelcast.sts.asr.base import Word
from babelcast.sts.asr.guards import Guards, SegmentScore, believed, too_fast, without_loops

pytestmark = pytest.mark.unit

GUARDS = Guards()


def words(text: str) -> list[Word]:
    return [Word(word, 100 * number, 100 * number + 90) for number, word in enumerate(text.split())]


@pytest.mark.parametrize(
    ("score", "ok"),
    [
        (SegmentScore(0.1, -0.3, 1.2), True),
        (SegmentScore(0.9, -0.3, 1.2), True),
        (SegmentScore(0.9, -1.4, 1.2), False),
        (SegmentScore(0.1, -1.4, 1.2), True),
        (SegmentScore(0.1, -2.5, 1.2), False),
        (SegmentScore(0.1, -0.1, 3.0), False),
    ],
)
def test_what_is_believed(score: SegmentScore, ok: bool) -> None:
    assert believed(score, GUARDS) is ok


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("thank you thank you thank you thank you", "thank you"),
        ("so it is it is it is it is and on", "so it is"),
        ("no no no we did", "no no no we did"),
        ("no no no no no no", "no"),
        ("goal goal goal", "goal goal goal"),
        ("Yes. yes, YES! yes", "Yes."),
        ("one two three one two three", "one two three one two three"),
        ("", ""),
    ],
)
def test_loops_are_kept_once_and_end_what_is_believed(said: str, kept: str) -> None:
    assert " ".join(word.text for word in without_loops(words(said), GUARDS)) == kept


def test_more_words_than_the_sound_has_room_for() -> None:
    assert too_fast(words("a b c d e f g h i j k"), 1_000, GUARDS)
    assert not too_fast(words("a b c d e f"), 1_000, GUARDS)
    assert not too_fast(words("a b c"), 100, GUARDS)
