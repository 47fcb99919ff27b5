from __future__ import annotations

import pytest

from babelcast.sts.plausible import longest_run, plausible, speech_enough

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("transcript", "translation"),
    [
        ("我们在港口看到了十艘船", "We saw ten ships near the harbor this morning, and the people waved."),
        ("港に船が十隻ありました", "There were ten ships in the harbor, and many people had come to see them."),
    ],
)
def test_a_dense_script_says_more_with_fewer_characters(transcript: str, translation: str) -> None:
    assert plausible(transcript, translation)
    assert not plausible(transcript, 4 * translation)


def test_a_translation_of_about_its_source_s_length_is_plausible() -> None:
    assert plausible("good evening and welcome", "buenas noches y bienvenidos")
    assert plausible("ok", "de acuerdo, muy bien")
    assert not plausible(
        "good evening", "buenas noches y bienvenidos a nuestro programa de todos los días en esta casa"
    )


def test_a_loop_is_not_plausible_unless_it_was_said() -> None:
    assert not plausible("the mayor has said it was good", "el alcalde el alcalde el alcalde dijo")
    assert plausible("very very very very good", "muy muy muy muy bien")
    assert plausible("no no no", "no no no")


@pytest.mark.parametrize(("text", "run"), [("", 1), ("one two three", 1), ("a b a b a b", 3), ("no, no, no, no", 3)])
def test_runs_are_counted_by_phrase(text: str, run: int) -> None:
    assert longest_run(text) == run


def test_words_need_speech_to_be_in() -> None:
    assert not speech_enough(130, 1)
    assert speech_enough(400, 2)
    assert not speech_enough(400, 9)
