"""The registry that comes with the package, and the command that shows it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from babelcast.cli.models import command
from babelcast.errors import ConfigError
from babelcast.models.registry import parse_registry, registry

pytestmark = pytest.mark.unit


def test_every_entry_is_complete() -> None:
    models = registry().models
    assert {model.kind for model in models.values()} == {"asr", "mt", "tts", "separation", "vad"}
    for model in models.values():
        assert model.source in registry().sources and model.licence and model.size > 100_000
        assert model.unverified <= (not model.pinned), model.name
        assert model.entry is None or model.entry in {file.path for file in model.files}
        if model.kind == "tts":
            assert model.voices and all(file.archive for file in model.files)
            names = Counter(voice.name for voice in model.voices)
            assert max(names.values()) == 1
        if model.family == "marian":
            assert len(model.pairs) == 1 and f"opus-mt-{'-'.join(model.pairs[0])}" == model.name


def test_the_languages_of_the_issue_have_a_voice() -> None:
    spoken = {voice.language.split("-")[0] for model in registry().models.values() for voice in model.voices}
    assert {"es", "en", "de", "fr", "it", "pt"} <= spoken


def test_addresses_and_mirrors() -> None:
    model = registry().find("faster-whisper-tiny")
    base = registry().base_url("hub", environment={})
    assert base == registry().sources["hub"]
    assert model.url(model.files[0], base).endswith(f"/Systran/faster-whisper-tiny/resolve/{model.revision}/model.bin")
    assert registry().base_url("hub", environment={"BABELCAST_MODELS_HUB": "http://mirror/"}) == "http://mirror"
    assert registry().base_url("hub", {"hub": "http://nearer"}, {"BABELCAST_MODELS_HUB": "x"}) == "http://nearer"
    voice = registry().find("vits-piper-es_ES-davefx-medium")
    assert voice.url(voice.files[0], "http://m") == "http://m/tts-models/vits-piper-es_ES-davefx-medium.tar.bz2"


def test_a_name_that_is_nearly_right() -> None:
    with pytest.raises(ConfigError, match="did you mean faster-whisper-small"):
        registry().find("faster-whisper-smal")


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x"])
def test_a_file_can_not_lie_outside(path: str) -> None:
    text = (
        "sources: {hub: http://h}\nmodels: {m: {kind: vad, family: f, licence: MIT, source: hub, repository: r, "
        f"files: [{{path: {path}, size: 1}}]}}}}"
    )
    with pytest.raises(ValueError, match="inside the model's folder"):
        parse_registry(text)


def test_the_command_lists_and_says_what_a_pull_would_do(tmp_path: Path) -> None:
    run = CliRunner(env={"BABELCAST_CACHE": str(tmp_path)}).invoke
    listed = run(command, ["list", "--kind", "asr"])
    assert listed.exit_code == 0
    assert "faster-whisper-small" in listed.output and "486 MB" in listed.output and "MIT" in listed.output
    assert "opus-mt" not in listed.output
    dry = run(command, ["pull", "opus-mt-en-es", "--dry-run", "--mirror", "hub=http://mirror.example"])
    assert "http://mirror.example/michaelfeil/ct2fast-opus-mt-en-es/resolve/76ec296588e2" in dry.output
    assert "sha256 36cd9bcb181f" in dry.output and not list(tmp_path.iterdir())
    refused = run(command, ["pull", "nllb-200-distilled-600m", "--dry-run"])
    assert isinstance(refused.exception, ConfigError) and "CC-BY-NC-4.0" in str(refused.exception)
    assert isinstance(run(command, ["pull", "opus-mt-en-es", "--mirror", "x=y"]).exception, ConfigError)


def test_verify_says_what_is_wrong_and_how_to_mend_it(tmp_path: Path) -> None:
    run = CliRunner(env={"BABELCAST_CACHE": str(tmp_path)}).invoke
    assert run(command, ["verify"]).exit_code == 0
    (tmp_path / "a-model").mkdir()
    result = run(command, ["verify"])
    assert result.exit_code == 1 and "babelcast models pull a-model --again" in result.output
    for name, hint in (("opus-mt-en-es", "babelcast models pull opus-mt-en-es"), ("nosuch", "babelcast models list")):
        refused = run(command, ["verify", name])
        assert isinstance(refused.exception, ConfigError) and refused.exception.hint == hint
