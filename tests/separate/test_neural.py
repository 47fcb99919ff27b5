"""Separation networks: real ONNX files, written by the test, through onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.separate import material, networks

from babelcast.errors import ConfigError, MissingDependencyError
from babelcast.separate.base import SeparationError, needed_delay_s
from babelcast.separate.factory import make_separator
from babelcast.separate.mdx import MdxFormat, MdxNetwork
from babelcast.separate.neural import NeuralSeparator, chunk_for, delay_needed
from babelcast.units import RATE, Pcm

pytestmark = pytest.mark.unit
pytest.importorskip("onnxruntime")


def programme(n: int, hz_limit: float = 15_000) -> Pcm:
    """Noise below ``hz_limit``, different in both channels."""
    rng = np.random.default_rng(3)
    spectrum = np.fft.rfft(0.1 * rng.standard_normal((n, 2)), axis=0)
    spectrum[round(hz_limit * n / RATE) :] = 0
    return np.fft.irfft(spectrum, n, axis=0).astype(np.float32)


def separator(path: Path, chunk_s: float = 0.4) -> NeuralSeparator:
    network = MdxNetwork(path)
    return NeuralSeparator(network, int(chunk_s * network.format.rate), gated=False)


@pytest.mark.parametrize("rate", [44_100, 48_000])
@pytest.mark.parametrize("n", [7_000, 100_001])
def test_what_the_network_calls_vocals_is_the_speech_to_the_sample(rate: int, n: int, tmp_path: Path) -> None:
    signal = programme(n)
    out = material.run(separator(networks.scaled(tmp_path / "n.onnx", sample_rate=str(rate))), signal, 1_000)
    assert len(out) == n
    assert material.si_sdr(signal[200:-200], out.speech[200:-200]) > 60
    assert np.abs(out.background + out.speech - signal).max() < 1e-6


def test_half_a_network_leaves_half(tmp_path: Path) -> None:
    signal = programme(80_000)
    out = material.run(separator(networks.scaled(tmp_path / "n.onnx", 0.25)), signal)
    assert np.abs(out.background - 0.75 * signal)[500:-500].max() < 2e-3


def test_an_instrumental_network_keeps_what_it_can_not_see(tmp_path: Path) -> None:
    signal = programme(80_000, 24_000)
    path = networks.scaled(tmp_path / "n.onnx", stem="instrumental")
    out = material.run(separator(path), signal)
    assert np.abs(out.speech).max() < 1e-5  # also above the network's 22 kHz
    silent = material.run(separator(networks.scaled(tmp_path / "m.onnx", 0.0, stem="instrumental")), signal)
    assert material.si_sdr(signal, silent.speech) > 8  # all of it but the highest tenth


@pytest.mark.parametrize("block", [480, 4_800, 100_000])
def test_the_latency_is_as_declared_and_blocks_do_not_matter(block: int, tmp_path: Path) -> None:
    signal = programme(150_000)
    path = networks.middle(tmp_path / "n.onnx")
    neural = separator(path)
    taken = given = 0
    for at in range(0, len(signal), block):
        taken += len(signal[at : at + block])
        given += len(neural.process(signal[at : at + block]))
        assert 0 <= taken - given <= neural.latency_samples
    assert given + len(neural.flush()) == len(signal)
    again = material.run(neural, signal, block)
    assert np.abs(again.speech - material.run(separator(path), signal, 7_777).speech).max() < 1e-5


def test_chunks_join_without_a_seam(tmp_path: Path) -> None:
    t = np.arange(3 * RATE) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    out = material.run(separator(networks.middle(tmp_path / "n.onnx"), 0.25), np.stack([tone, tone], axis=1))
    seams = np.abs(np.diff(out.speech[2_000:-2_000, 0] - tone[2_000:-2_000]))
    assert seams.max() < 1e-3  # −60 dBFS


def test_a_network_is_not_asked_where_nobody_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = MdxNetwork(networks.scaled(tmp_path / "n.onnx"))
    asked: list[int] = []
    speech = network.speech

    def ask(segment: Pcm, start: int, stop: int) -> Pcm:
        asked.append(start)
        return speech(segment, start, stop)

    monkeypatch.setattr(network, "speech", ask)
    neural = NeuralSeparator(network, int(0.4 * 44_100))
    bed = material.at_level(material.crowd(4 * RATE), 12)
    assert np.array_equal(material.run(neural, bed).background, bed)
    assert not asked
    voice = material.talk()[: 4 * RATE]
    out = material.run(neural, voice[:, None] + bed)
    assert asked
    said = material.spoken(voice)
    assert material.level_change_db(out.background, bed, said) < -15  # all but what the network can not see
    assert np.array_equal(out.background[:RATE], bed[:RATE])


# --- what a file says of itself ---


def test_a_file_beside_it_counts_more_than_the_metadata(tmp_path: Path) -> None:
    path = networks.scaled(tmp_path / "UVR-MDX-NET-Voc_FT.onnx", n_fft="2050")
    assert MdxNetwork(path).format.n_fft == 7_680  # known by its name; the metadata of some copies is wrong
    path.with_suffix(".json").write_text(
        json.dumps({"mdx_n_fft_scale_set": 4_096, "primary_stem": "Instrumental", "compensate": 1.02})
    )
    assert MdxNetwork(path).format == MdxFormat(1_025, networks.DIM_T, 4_096, 512, 44_100, "instrumental", 1.02)
    path.with_name(path.name + ".json").write_text(json.dumps({"n_fft": 2_048, "stem": "vocals", "chunk_s": 0.5}))
    assert MdxNetwork(path).format.chunk_s == 0.5


def test_what_is_told_nowhere_is_asked_for(tmp_path: Path) -> None:
    path = networks.identity(tmp_path / "n.onnx", (1, 4, 1_024, networks.DIM_T))
    with pytest.raises(ConfigError, match="n_fft and stem") as caught:
        MdxNetwork(path)
    assert "n.onnx.json" in str(caught.value)
    path.with_suffix(".json").write_text('{"stem": "vocals", "n_fft": 2048, "hop": 512}')
    assert MdxNetwork(path).format.segment == 512 * 127


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"n_fft": 1_024}, "1025 bins"),
        ({"hop": 4_096}, "hop"),
        ({"hop": "wide"}, "wide"),
        ({"sample_rate": 1}, "sample rate"),
        ({"threads": 0}, "threads"),
        ({"chunk_s": -1}, "chunks"),
        ({"gain": 0}, "gain"),
    ],
)
def test_a_format_that_can_not_be_is_refused(told: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    path = networks.scaled(tmp_path / "n.onnx")
    path.with_suffix(".json").write_text(json.dumps({"n_fft": 2_048, "stem": "vocals", **told}))
    with pytest.raises(ConfigError, match=complaint):
        MdxNetwork(path)


def test_other_files_are_refused_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "n.onnx"
    with pytest.raises(MissingDependencyError, match="no separation network"):
        MdxNetwork(path)
    path.write_bytes(b"not a network at all")
    with pytest.raises(ConfigError, match="not a network that onnxruntime can load"):
        MdxNetwork(path)
    for shape, complaint in (
        ((1, 4, 1_025), "of shape"),
        ((1, 2, 1_025, 128), "2 planes"),
        ((8, 4, 1_025, 128), "8 segments"),
    ):
        networks.identity(path, shape)
        with pytest.raises(ConfigError, match=complaint):
            MdxNetwork(path)
    networks.identity(path)
    for beside, complaint in (("{", r"n\.json"), ('{"mdx_dim_t_set": "many"}', "mdx_dim_t_set: it is 'many'")):
        path.with_suffix(".json").write_text(beside)
        with pytest.raises(ConfigError, match=complaint):
            MdxNetwork(path)


def test_what_is_not_a_number_is_an_error(tmp_path: Path) -> None:
    path = networks.scaled(tmp_path / "n.onnx", float("nan"))
    with pytest.raises(SeparationError, match="not a number"):
        separator(path).process(programme(RATE))


def test_a_network_that_fails_on_the_way_is_an_error(tmp_path: Path) -> None:
    path = networks.stumbling(tmp_path / "n.onnx")
    path.with_suffix(".json").write_text('{"stem": "vocals", "dim_f": 1025, "dim_t": 128}')
    with pytest.raises(SeparationError, match="failed"):
        separator(path).process(programme(RATE))


# --- delay ---

MDX = MdxFormat(dim_f=2_048, dim_t=256, n_fft=6_144, hop=1_024, rate=44_100, stem="vocals")


def test_the_chunk_is_the_longest_that_the_delay_has_room_for() -> None:
    chunks = [chunk_for(MDX, delay) / MDX.rate for delay in (3.0, 6.0, 9.0, 20.0)]
    assert chunks == sorted(chunks)
    assert 1.0 < chunks[0] < 1.2 and 2.5 < chunks[1] < 3.0
    assert chunks[3] == chunk_for(MDX, None) / MDX.rate
    assert 5.4 < chunks[3] < MDX.segment / MDX.rate


@pytest.mark.parametrize(("delay", "chunk_s"), [(2.5, None), (4.0, 3.0)])
def test_too_short_a_delay_is_refused_by_the_delay_that_is_needed(delay: float, chunk_s: float | None) -> None:
    f = MdxFormat(2_048, 256, 6_144, 1_024, 44_100, "vocals", chunk_s=chunk_s)
    with pytest.raises(ConfigError) as caught:
        chunk_for(f, delay)
    chunk = round((chunk_s or 1.0) * f.rate) // f.hop * f.hop
    assert f"at least {delay_needed(f, chunk):.1f} s, and it is {delay:g} s" in str(caught.value)


def test_neural_refuses_a_delay_that_auto_takes_without_it(tmp_path: Path) -> None:
    path = networks.scaled(tmp_path / "n.onnx", chunk_s="1.0")
    with pytest.raises(ConfigError, match="at least"):
        make_separator("neural", str(path), delay_s=2.0)
    guard = make_separator("auto", str(path), delay_s=2.0)
    guard.process(programme(4_800))
    assert guard.active in ("centre", "spectral")
    assert "needs a delay of at least" in guard.warnings[0]
    fitting = make_separator("auto", str(path), delay_s=4.0)
    assert fitting.active == "neural"
    assert 2.0 < needed_delay_s(fitting) == fitting.needed_delay_s <= 4.0


def test_a_missing_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BABELCAST_CACHE", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="babelcast models pull uvr-mdx-voc-ft"):
        make_separator("neural", "uvr-mdx-voc-ft")
    with pytest.raises(ConfigError, match="separation_model"):
        make_separator("neural", delay_s=6.0)
    live = make_separator("neural", "uvr-mdx-voc-ft", delay_s=6.0)
    assert live.process(programme(4_800)).failed
    assert "babelcast models pull uvr-mdx-voc-ft" in live.warnings[0]
    auto = make_separator("auto", "uvr-mdx-voc-ft", delay_s=6.0)
    assert not auto.process(programme(4_800)).failed
    assert "went down from neural" in auto.warnings[0]
