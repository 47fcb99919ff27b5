"""CTranslate2 with random models of each family, loaded by the code that loads the real ones."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.fakes.tiny_models import many, opus

from babelcast.errors import ConfigError, MissingDependencyError, UnsupportedLanguageError
from babelcast.models.manifest import MANIFEST, read_manifest
from babelcast.sts.batching import BatchSettings
from babelcast.sts.device import Compute
from babelcast.sts.mt.apertium import ApertiumTranslator
from babelcast.sts.mt.base import Term
from babelcast.sts.mt.ct2 import Ct2Translator, answer_limit, layout
from babelcast.sts.mt.hold import HoldingTranslator
from babelcast.sts.mt.languages import FLORES, flores, madlad, many_pairs
from babelcast.sts.mt.several import Translators

CPU = Compute(device="cpu", threads=1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    made = {"opus": opus(folder / "opus-mt-en-es"), "tokens": opus(folder / "tc", "en", "pt", {"pt": ">>por<<"})}
    return made | {family: many(folder / family, family) for family in ("nllb", "madlad")}


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "target"), [("opus", "es"), ("tokens", "pt-PT"), ("nllb", "es-419"), ("madlad", "de")]
)
def test_each_family_translates_something_and_the_same_each_time(
    models: dict[str, Path], name: str, target: str
) -> None:
    translator = Ct2Translator(str(models[name]), CPU)
    translator.preload("en", target)
    answer = translator.translate("good evening and welcome to the harbor", "en-GB", target)
    assert answer and answer == translator.translate("good evening and welcome to the harbor", "en-GB", target)
    assert "_Latn" not in answer and "</s>" not in answer and ">>por<<" not in answer
    assert translator.translate("  ", "en", target) == ""
    assert translator.translate("x" * 50_000, "en", target) is not None
    translator.close()


@pytest.mark.integration
@pytest.mark.parametrize(("name", "targets"), [("opus", ["es"]), ("nllb", ["es", "de"]), ("madlad", ["es", "de"])])
def test_clauses_of_several_sessions_go_in_one_batch_and_come_out_as_alone(
    models: dict[str, Path], name: str, targets: list[str]
) -> None:
    clauses = ["good evening", "and welcome to the harbor festival", "tomorrow", "the winner will receive a silver cup"]
    asked = [(clause, target) for clause in clauses for target in targets]
    alone = Ct2Translator(str(models[name]), CPU, batch=BatchSettings(size=1))
    expected = [alone.translate(clause, "en", target) for clause, target in asked]
    alone.close()
    together = Ct2Translator(str(models[name]), CPU, batch=BatchSettings(size=len(asked), wait_s=5.0))
    together.preload("en", "es")
    with ThreadPoolExecutor(len(asked)) as threads:
        found = list(threads.map(lambda one: together.translate(one[0], "en", one[1]), asked))
    together.close()
    assert found == expected and len(set(found)) > 2
    assert together.batches.items == len(asked) and sum(together.batches.sizes) == 1


@pytest.mark.unit
def test_answers_have_a_limit_that_many_clauses_share() -> None:
    assert [answer_limit(tokens) for tokens in (1, 39, 40, 400)] == [128, 128, 256, 2048]


@pytest.mark.integration
def test_glossary_and_numbers_survive_a_model_that_says_nonsense(models: dict[str, Path]) -> None:
    translator = HoldingTranslator(Ct2Translator(str(models["opus"]), CPU), [Term("harbor festival", {"es": "fiesta"})])
    answer = translator.translate("the harbor festival has 25 boats", "en", "es")
    assert "fiesta" in answer.split() and "25" in answer.split()
    translator.close()


@pytest.mark.integration
def test_a_pair_that_it_has_not_and_a_model_that_is_not_whole(models: dict[str, Path], tmp_path: Path) -> None:
    translator = Ct2Translator(str(models["opus"]), CPU)
    with pytest.raises(UnsupportedLanguageError, match="here: en-es"):
        translator.translate("hello", "en", "de")
    translator.close()
    broken = opus(tmp_path / "broken")
    (broken / "target.spm").unlink()
    with pytest.raises(MissingDependencyError, match=r"no target\.spm \(babelcast models pull broken --again"):
        Ct2Translator(str(broken), CPU).preload("en", "es")
    (broken / MANIFEST).unlink()
    with pytest.raises(ConfigError, match=r"has no manifest\.json"):
        Ct2Translator(str(broken), CPU)


@pytest.mark.integration
def test_two_translators_share_the_pairs_in_the_order_given(models: dict[str, Path]) -> None:
    both = Translators([Ct2Translator(str(models["tokens"]), CPU), ApertiumTranslator()])
    try:
        assert {("en", "pt"), ("en", "es")} <= set(both.pairs)
        assert both.translate("the cat", "en", "es").lower() == "el gato"
        assert both.translate("the cat", "en", "pt")
        with pytest.raises(UnsupportedLanguageError, match=r"from en there is: .*pt"):
            both.translate("the cat", "en", "zu")
    finally:
        both.close()


@pytest.mark.unit
def test_language_tables() -> None:
    assert flores("en-GB") == "eng_Latn" and flores("zh-Hant") == "zho_Hant" and flores("nb") == "nob_Latn"
    assert flores("xx") is None and madlad("fil") == "tl" and madlad("xx") is None
    assert len(set(FLORES.values())) == len(FLORES) and all(code[3] == "_" for code in FLORES.values())
    assert len(many_pairs()) == len(FLORES) * (len(FLORES) - 1)


@pytest.mark.integration
def test_how_each_family_is_told_the_language(models: dict[str, Path]) -> None:
    seen = {}
    for name, target in (("opus", "es"), ("tokens", "pt"), ("nllb", "es"), ("madlad", "es")):
        found = read_manifest(models[name])
        assert found
        of = layout(found)
        seen[name] = (of.head("en", target), of.text("hello", target), of.forced(target))
    assert seen == {
        "opus": ([], "hello", []),
        "tokens": ([">>por<<"], "hello", []),
        "nllb": (["eng_Latn"], "hello", ["spa_Latn"]),
        "madlad": ([], "<2es> hello", []),
    }
    assert json.loads((models["opus"] / "config.json").read_text())["add_source_eos"] is False
