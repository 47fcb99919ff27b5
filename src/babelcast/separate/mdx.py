"""MDX-style separation networks in ONNX files: what a file says of itself, and one segment through it.

Such a network takes the short-time spectra of a stereo segment as real numbers, shape (batch, 4, dim_f, dim_t): real
and imaginary part of the left channel, then of the right; dim_f lowest bins, dim_t frames. It gives the spectra of one
stem, vocals or instrumental, in the same shape. FFT size, hop, sample rate and stem are not in the shapes. They are
looked for, in this order, in

1. a JSON file beside the network (``NAME.onnx.json`` or ``NAME.json``), with the keys of :data:`_KEYS`, or those of
   Ultimate Vocal Remover's ``model_data.json`` (``mdx_n_fft_scale_set``, ``primary_stem``, ``compensate`` …);
2. what is publicly known of a few networks by their file name (:data:`_KNOWN`): the copies that sherpa-onnx
   distributes carry ``n_fft = 2 × dim_f`` in their metadata, which is wrong for some;
3. the file's own metadata.

A wrong FFT size gives rubbish on air, so what is found nowhere is asked for and never guessed.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from babelcast.errors import ConfigError, MissingDependencyError
from babelcast.separate.base import SeparationError
from babelcast.units import CHANNELS, Pcm

Stem = Literal["vocals", "instrumental"]
Spectra = npt.NDArray[np.complex64]

_KEYS = {
    "n_fft": ("n_fft", "mdx_n_fft_scale_set"),
    "hop": ("hop", "hop_length"),
    "rate": ("rate", "sample_rate"),
    "dim_f": ("dim_f", "mdx_dim_f_set"),
    "dim_t": ("dim_t",),
    "stem": ("stem", "primary_stem"),
    "gain": ("gain", "compensate"),
    "chunk_s": ("chunk_s",),
    "threads": ("threads",),
}
_KNOWN: dict[str, dict[str, Any]] = {
    "uvr-mdx-net-voc_ft": {"n_fft": 7680, "stem": "vocals", "gain": 1.021},
    "kim_vocal_2": {"n_fft": 7680, "stem": "vocals", "gain": 1.009},
    "uvr-mdx-net-inst_hq_3": {"n_fft": 6144, "stem": "instrumental", "gain": 1.022},
    "uvr-mdx-net-inst_hq_4": {"n_fft": 5120, "stem": "instrumental", "gain": 1.019},
    "uvr-mdx-net-inst_main": {"n_fft": 5120, "stem": "instrumental", "gain": 1.025},
    "uvr_mdxnet_9482": {"stem": "vocals"},
}
_USUAL = {"hop": 1024, "rate": 44_100, "gain": 1.0, "dim_t": 256, "threads": 1}


@dataclass(frozen=True, slots=True)
class MdxFormat:
    """``gain`` is what the network's output is multiplied by (a network trained on loud music is a little low);
    ``chunk_s``: how many seconds are to be separated at a time, None to choose by the delay. ``threads``: how many
    cores one segment may use."""

    dim_f: int
    dim_t: int
    n_fft: int
    hop: int
    rate: int
    stem: Stem
    gain: float = 1.0
    chunk_s: float | None = None
    threads: int = 1

    @property
    def segment(self) -> int:
        """Samples at ``rate`` that go through the network at a time."""
        return self.hop * (self.dim_t - 1)


class MdxNetwork:
    """A loaded network.

    Raises MissingDependencyError where the file or onnxruntime is not there, ConfigError where the file is not such
    a network or does not say enough.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._session = _load(path, _threads(path))
        self.format = read_format(path, *_shape(self._session, path))
        self._input = self._session.get_inputs()[0].name
        n = self.format.n_fft
        self._window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)).astype(np.float32)

    def speech(self, segment: Pcm, start: int, stop: int) -> Pcm:
        """The speech in samples [start, stop) of ``segment``: float32, shape (format.segment, 2) at the network's
        rate → (stop − start, 2). Within half an FFT of the segment's ends it is less sure.

        Raises SeparationError where the network fails or gives what is not a number.
        """
        spectra = self._analyse(segment)
        return self._synthesise(self._infer(spectra), start, stop)

    def _analyse(self, segment: Pcm) -> Spectra:
        """Shape (2, dim_t, dim_f); frames are centred, edges reflected."""
        f = self.format
        half = f.n_fft // 2
        padded = np.pad(np.ascontiguousarray(segment.T), ((0, 0), (half, half)), mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, f.n_fft, axis=1)[:, :: f.hop]
        spectra = np.fft.rfft(frames * self._window, axis=-1)[:, :, : f.dim_f]
        return spectra.astype(np.complex64, copy=False)

    def _infer(self, spectra: Spectra) -> Spectra:
        f = self.format
        planes = np.empty((1, 2 * CHANNELS, f.dim_f, f.dim_t), np.float32)
        planes[0, 0::2] = spectra.real.transpose(0, 2, 1)
        planes[0, 1::2] = spectra.imag.transpose(0, 2, 1)
        try:
            out = np.asarray(self._session.run(None, {self._input: planes})[0])
        except Exception as error:  # onnxruntime's errors have no common base that it documents
            raise SeparationError(f"the network {self.path.name} failed: {_first_line(error)}") from error
        if out.shape != planes.shape:
            raise SeparationError(f"the network {self.path.name} gave shape {out.shape} for {planes.shape}")
        stem = (out[0, 0::2] + np.complex64(1j) * out[0, 1::2]).transpose(0, 2, 1)
        stem *= np.float32(f.gain)
        return stem if f.stem == "vocals" else spectra - stem

    def _synthesise(self, spectra: Spectra, start: int, stop: int) -> Pcm:
        """Overlap-add of the frames that touch [start, stop), divided by the sum of squared windows."""
        f = self.format
        begin, end = start + f.n_fft // 2, stop + f.n_fft // 2  # in the padded segment, where frame k begins at k hops
        first = max(0, -(-(begin - f.n_fft + 1) // f.hop))
        last = min(f.dim_t, -(-end // f.hop))
        waves = np.fft.irfft(spectra[:, first:last], f.n_fft, axis=-1).astype(np.float32, copy=False)
        waves *= self._window
        out = np.zeros((CHANNELS, (last - first - 1) * f.hop + f.n_fft), np.float32)
        weight = np.zeros(out.shape[1], np.float32)
        for k in range(last - first):
            out[:, k * f.hop : k * f.hop + f.n_fft] += waves[:, k]
            weight[k * f.hop : k * f.hop + f.n_fft] += self._window**2
        part = slice(begin - first * f.hop, end - first * f.hop)
        speech: Pcm = np.ascontiguousarray((out[:, part] / np.maximum(weight[part], 1e-6)).T)
        if not np.isfinite(speech).all():
            raise SeparationError(f"the network {self.path.name} gave what is not a number")
        return speech


def _load(path: Path, threads: int) -> Any:
    try:
        onnxruntime: Any = importlib.import_module("onnxruntime")  # imported where it is needed: 0.1 s, 40 MB
    except ImportError:
        raise MissingDependencyError(
            "neural separation needs onnxruntime", hint="pip install 'babelcast[neural]'"
        ) from None
    if not path.is_file():
        raise MissingDependencyError(f"there is no separation network {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised; the library's own lines on stderr are not ours
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would burn a core between segments
    # measured with a 30 MB network: 0.2 GB stay between segments instead of 0.9 GB, and it is no slower
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConfigError(f"{path.name} is not a network that onnxruntime can load: {_first_line(error)}") from error


def _threads(path: Path) -> int:
    threads = _sidecar(path).get("threads", _USUAL["threads"])
    return threads if isinstance(threads, int) and 1 <= threads <= 64 else 1  # a wrong one is told by read_format


def _shape(session: Any, path: Path) -> tuple[list[Any], dict[str, str]]:
    """The input's shape and the metadata; raises ConfigError where inputs or outputs are not as they must be."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) < 1:
        raise ConfigError(f"{path.name} has {len(inputs)} inputs; a separation network has one")
    shape, given = list(inputs[0].shape), list(outputs[0].shape)
    if len(shape) != 4 or inputs[0].type != "tensor(float)":
        raise ConfigError(f"{path.name} takes {inputs[0].type} of shape {shape}, not float of (batch, 4, dim_f, dim_t)")
    if isinstance(shape[1], int) and shape[1] != 2 * CHANNELS:
        raise ConfigError(f"{path.name} takes {shape[1]} planes, not 4: it is not for stereo spectra")
    pairs = zip(shape[1:], given[1:], strict=False)
    if len(given) != 4 or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs):
        raise ConfigError(f"{path.name} takes shape {shape} but gives {given}; they must be the same")
    if isinstance(shape[0], int) and shape[0] != 1:
        raise ConfigError(f"{path.name} takes {shape[0]} segments at a time, not one")
    return shape, dict(session.get_modelmeta().custom_metadata_map)


def read_format(path: Path, shape: list[Any], metadata: Mapping[str, str]) -> MdxFormat:
    """``shape``: of the network's input, whole numbers where they are fixed. Raises ConfigError, naming what is
    missing or wrong."""
    sources = [_sidecar(path), _KNOWN.get(path.stem.lower(), {}), metadata]

    def told(name: str) -> Any:
        return next((s[key] for s in sources for key in _KEYS[name] if key in s), _USUAL.get(name))

    dim_f = shape[2] if isinstance(shape[2], int) else told("dim_f")
    dim_t = shape[3] if isinstance(shape[3], int) else told("dim_t")
    n_fft, stem = told("n_fft"), _stem(told("stem"))
    if n_fft is None and isinstance(dim_f, int) and dim_f % 2:
        n_fft = 2 * (dim_f - 1)  # all the bins of an even FFT
    missing = [name for name, value in (("n_fft", n_fft), ("stem", stem), ("dim_f", dim_f)) if value is None]
    if missing or stem is None:
        raise ConfigError(
            f"{path.name} does not say its {' and '.join(missing)}",
            hint=f'write them into {path.name}.json, like {{"n_fft": 6144, "stem": "vocals"}}',
        )
    chunk = told("chunk_s")
    try:
        result = MdxFormat(
            int(dim_f), int(dim_t), int(n_fft), int(told("hop")), int(told("rate")), stem, float(told("gain")),
            None if chunk is None else float(chunk), int(told("threads")),
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path.name}: {error}") from error
    _check(result, path)
    return result


def _stem(word: Any) -> Stem | None:
    match str(word).lower():
        case "vocals" | "vocal" | "voice" | "speech":
            return "vocals"
        case "instrumental" | "background" | "no_vocals":
            return "instrumental"
    return None


def _check(f: MdxFormat, path: Path) -> None:
    checks = (
        (256 <= f.n_fft <= 32_768 and f.n_fft % 2 == 0, f"an FFT of {f.n_fft}"),
        (1 <= f.dim_f <= f.n_fft // 2 + 1, f"{f.dim_f} bins of an FFT of {f.n_fft}"),
        (1 <= f.hop <= f.n_fft // 2, f"a hop of {f.hop} with an FFT of {f.n_fft}"),
        (8_000 <= f.rate <= 96_000, f"a sample rate of {f.rate}"),
        (f.segment >= 2 * f.n_fft, f"segments of {f.dim_t} frames"),
        (0.1 <= f.gain <= 10.0, f"a gain of {f.gain}"),
        (1 <= f.threads <= 64, f"{f.threads} threads"),
        (f.chunk_s is None or 0.1 <= f.chunk_s <= 20.0, f"chunks of {f.chunk_s} s"),
    )
    for good, what in checks:
        if not good:
            raise ConfigError(f"{path.name} says {what}, which can't be")


def _sidecar(path: Path) -> dict[str, Any]:
    for beside in (path.with_name(path.name + ".json"), path.with_suffix(".json")):
        if beside.is_file():
            try:
                found = json.loads(beside.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise ConfigError(f"it can't be read: {error}", file=str(beside)) from error
            if not isinstance(found, dict):
                raise ConfigError("it is not a JSON object", file=str(beside))
            exponent = found.get("mdx_dim_t_set", 8)
            if not isinstance(exponent, int) or not 0 <= exponent <= 16:
                raise ConfigError(f"it is {exponent!r}, not an exponent of two", file=str(beside), key="mdx_dim_t_set")
            return {"dim_t": 2**exponent, **found} if "mdx_dim_t_set" in found else found
    return {}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
