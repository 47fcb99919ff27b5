"""Models of a few hundred kilobytes with random weights, in the very files that the real ones have.

They say nonsense, but they are loaded and run by the same libraries and the same code. Each function writes a folder as
``babelcast models pull`` would leave it, manifest and all, and returns it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from ctranslate2.specs import common_spec, model_spec, transformer_spec, whisper_spec
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from babelcast.models.manifest import MANIFEST, Kind, Manifest, VoiceRecord
from tests.fakes.tiny_onnx import FLOAT, INT64, Node, write_model

_RANDOM = 1
WHISPER_LANGUAGES = ("en", "es", "de")
WHISPER_SAYS = ("good", "evening", "and", "welcome", "to", "the", "harbor")
SENTENCES = (
    "good evening and welcome to the harbor festival",
    "tomorrow there will be a race with twenty small boats",
    "buenas tardes y bienvenidos al festival del puerto",
    "mañana habrá una carrera con veinte barcos pequeños",
    "the winner will receive a silver cup and 500 euros",
    "el ganador recibirá una copa de plata",
)


def manifest(folder: Path, kind: Kind, family: str, **traits: Any) -> Path:
    record = Manifest(
        name=folder.name,
        kind=kind,
        family=family,
        licence="none",
        pulled="2026-11-21",
        source="test",
        files=(),
        **traits,
    )
    (folder / MANIFEST).write_text(record.model_dump_json())
    return folder


def fill(spec: model_spec.LayerSpec, shapes: dict[str, tuple[int, ...]], scale: float = 0.1) -> None:
    """Give every weight of ``spec`` that ``shapes`` names (by the end of its path) random values, norms their one."""
    random = np.random.default_rng(_RANDOM)

    def visit(layer: model_spec.LayerSpec, path: str) -> None:
        for name, value in list(vars(layer).items()):
            here = f"{path}/{name}"
            if isinstance(value, model_spec.LayerSpec):
                visit(value, here)
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    visit(item, f"{here}_{index}")
            elif value is None:
                shape = _shape(here, shapes)
                if name == "gamma":
                    setattr(layer, name, np.ones(shape, np.float32))
                elif name in {"beta", "bias"}:
                    setattr(layer, name, np.zeros(shape, np.float32))
                else:
                    setattr(layer, name, random.normal(0, scale, shape).astype(np.float32))

    visit(spec, "")


def _shape(path: str, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    for ending in sorted(shapes, key=len, reverse=True):
        if path.endswith(ending):
            return shapes[ending]
    raise KeyError(path)


def attention_shapes(width: int, prefix: str, cross: bool = False) -> dict[str, tuple[int, ...]]:
    """CTranslate2 joins query, key and value of self-attention, and key and value of attention to the encoder."""
    first = width if cross else 3 * width
    shapes = {f"{prefix}/linear_0/weight": (first, width), f"{prefix}/linear_0/bias": (first,)}
    if cross:
        shapes |= {f"{prefix}/linear_1/weight": (2 * width, width), f"{prefix}/linear_1/bias": (2 * width,)}
    last = 2 if cross else 1
    return shapes | {f"{prefix}/linear_{last}/weight": (width, width), f"{prefix}/linear_{last}/bias": (width,)}


def layer_shapes(width: int, inner: int) -> dict[str, tuple[int, ...]]:
    return {
        **attention_shapes(width, "self_attention"),
        **attention_shapes(width, "attention", cross=True),
        **attention_shapes(width, "self_attention"),
        "ffn/linear_0/weight": (inner, width),
        "ffn/linear_0/bias": (inner,),
        "ffn/linear_1/weight": (width, inner),
        "ffn/linear_1/bias": (width,),
        "gamma": (width,),
        "beta": (width,),
    }


def whisper(folder: Path, width: int = 32, layers: int = 2, heads: int = 2, words: int = 0) -> Path:
    """A multilingual Whisper of small layers, or of any size to measure speed.

    Its decoder says :data:`WHISPER_SAYS` whatever it hears.
    Each position's encoding points at one token, in a cycle that ends with the end of text; the rest is random and
    small. With a prompt it begins later in the cycle.
    """
    folder.mkdir(parents=True, exist_ok=True)
    letters = list(pre_tokenizers.ByteLevel.alphabet())
    said = [f"Ġ{word}" for word in WHISPER_SAYS]
    special = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{code}|>" for code in WHISPER_LANGUAGES),
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
        *(f"<|{number * 0.02:.2f}|>" for number in range(1501)),
    ]
    # CTranslate2 takes a model for multilingual if its vocabulary has an empty string
    vocabulary = [*letters, *said, *(f"Ġw{number}" for number in range(words)), "", *special]
    tokenizer = Tokenizer(BPE({token: number for number, token in enumerate(vocabulary)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    spec = whisper_spec.WhisperSpec(layers, heads, layers, heads)
    shapes = layer_shapes(width, 2 * width) | {
        "conv1/weight": (width, 80, 3),
        "conv1/bias": (width,),
        "conv2/weight": (width, width, 3),
        "conv2/bias": (width,),
        "decoder/embeddings/weight": (len(vocabulary), width),
        "decoder/projection/weight": (len(vocabulary), width),
        "decoder/projection/bias": (len(vocabulary),),
    }
    fill(spec, shapes, scale=0.01)
    spec.encoder.position_encodings.encodings = (
        np.random.default_rng(_RANDOM).normal(0, 0.1, (1500, width)).astype("f4")
    )
    cycle = [*said, "<|endoftext|>"]
    # the first word follows position 3: <|startoftranscript|>, language, task, time
    spec.decoder.position_encodings.encodings = np.eye(width, dtype="f4")[(np.arange(448) - 3) % len(cycle)]
    for place, token in enumerate(cycle):
        spec.decoder.projection.weight[vocabulary.index(token), place] = 4.0
    spec.config.lang_ids = [vocabulary.index(f"<|{code}|>") for code in WHISPER_LANGUAGES]
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [vocabulary.index("<|endoftext|>")]
    spec.config.alignment_heads = [[layers - 1, head] for head in range(heads)]
    spec.register_vocabulary(vocabulary)
    return _saved(spec, folder, "asr", "whisper")


def _saved(spec: Any, folder: Path, kind: Kind, family: str, **traits: Any) -> Path:
    spec.validate()
    spec.optimize(quantization="int8")
    spec.save(str(folder))
    return manifest(folder, kind, family, **traits)


def sentence_model(path: Path, size: int = 120, extra: Sequence[str] = ()) -> list[str]:
    """Train a SentencePiece model on a few sentences; returns its pieces."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4),
        model_writer=model,
        vocab_size=size,
        model_type="unigram",
        hard_vocab_limit=False,
        user_defined_symbols=list(extra),
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [processor.id_to_piece(number) for number in range(processor.get_piece_size())]


def _transformer(folder: Path, vocabulary: list[str], width: int = 16, layers: int = 1, heads: int = 2) -> Any:
    spec = transformer_spec.TransformerSpec.from_config(
        (layers, layers), heads, pre_norm=False, activation=common_spec.Activation.SWISH, no_final_norm=True
    )
    shapes = layer_shapes(width, 2 * width) | {
        "embeddings_0/weight": (len(vocabulary), width),
        "embeddings/weight": (len(vocabulary), width),
        "projection/weight": (len(vocabulary), width),
        "projection/bias": (len(vocabulary),),
    }
    fill(spec, shapes, scale=0.5)
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(vocabulary)
    spec.config.add_source_eos = False
    spec.config.decoder_start_token = "</s>"
    return spec


def opus(
    folder: Path,
    source: str = "en",
    target: str = "es",
    tokens: dict[str, str] | None = None,
    *,
    width: int = 16,
    layers: int = 1,
    heads: int = 2,
    words: int = 0,
) -> Path:
    """An OPUS-MT model of one pair, small or of any size to measure speed; ``words`` more in its vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = sentence_model(folder / "source.spm")
    sentence_model(folder / "target.spm")
    more = (f"▁w{number}" for number in range(words))
    vocabulary = list(dict.fromkeys(["<unk>", "<s>", "</s>", *pieces, *(tokens or {}).values(), *more]))
    spec = _transformer(folder, vocabulary, width, layers, heads)
    return _saved(spec, folder, "mt", "marian", pairs=((source, target),), target_tokens=tokens or {})


def many(folder: Path, family: str) -> Path:
    """NLLB or MADLAD."""
    folder.mkdir(parents=True, exist_ok=True)
    name = {"nllb": "sentencepiece.bpe.model", "madlad": "spiece.model"}[family]
    codes = ["eng_Latn", "spa_Latn", "deu_Latn"] if family == "nllb" else []
    pieces = sentence_model(folder / name, extra=["<2es>", "<2de>"] if family == "madlad" else ())
    spec = _transformer(folder, list(dict.fromkeys(["<unk>", "<s>", "</s>", *pieces, *codes])))
    return _saved(spec, folder, "mt", family)


PHONEMES = "_^$ !'(),-.:;?\"abcdefghijklmnopqrstuvwxyzæçðøħŋœǀɐɑɒɔɕɖəɛɜɡɣɪɫɬɭɲɳɹɾʁʃʊʌʎʒʔʝʰβθχᵻˈˌː̃IWʣʤAOQSʦʧY"


def tone_voice(folder: Path, family: str = "piper", voices: Sequence[VoiceRecord] = ()) -> Path:
    """A voice that says each phoneme as a tone: its number is the pitch, tempo and speaker count as in a real one."""
    folder.mkdir(parents=True, exist_ok=True)
    kokoro = family == "kokoro"
    records = tuple(voices) or (VoiceRecord(name="tone", language="es", gender="neutral", phonemes="es"),)
    (folder / "tokens.txt").write_text(
        "".join(f"{symbol} {number}\n" for number, symbol in enumerate(dict.fromkeys(PHONEMES))), encoding="utf-8"
    )
    pace = [Node("Div", ["per_token", "speed"], ["count"])] if kokoro else _piper_pace()
    write_model(
        folder / "model.onnx",
        nodes=[
            *pace,
            Node("Squeeze", ["count"], ["scalar"]),
            Node("Cast", ["scalar"], ["samples"], {"to": INT64}),
            Node("Range", ["zero", "samples", "one"], ["ramp"]),
            Node("Cast", ["ramp"], ["time"], {"to": FLOAT}),
            Node("Unsqueeze", ["time", "axis"], ["row"]),
            Node("Cast", ["tokens" if kokoro else "input"], ["pitch"], {"to": FLOAT}),
            Node("Transpose", ["pitch"], ["column"], {"perm": [1, 0]}),
            Node("Mul", ["column", "omega"], ["radians"]),
            Node("Mul", ["radians", "row"], ["phase"]),
            Node("Sin", ["phase"], ["wave"]),
            Node("Mul", ["wave", "level"], ["quiet"]),
            Node("Reshape", ["quiet", "flat"], ["audio" if kokoro else "output"]),
        ],
        constants={
            "per_token": np.array([1_200], np.float32),
            "zero": np.array(0, np.int64),
            "one": np.array(1, np.int64),
            "axis": np.array([0], np.int64),
            "omega": np.array(0.004, np.float32),
            "level": np.array(0.3, np.float32),
            "flat": np.array([-1] if kokoro else [1, 1, -1], np.int64),
        },
        inputs=(
            {"tokens": (INT64, [1, "T"]), "style": (FLOAT, [1, 4]), "speed": (FLOAT, [1])}
            if kokoro
            else {
                "input": (INT64, [1, "T"]),
                "input_lengths": (INT64, [1]),
                "scales": (FLOAT, [3]),
                "sid": (INT64, [1]),
            }
        ),
        outputs={"audio": (FLOAT, ["N"])} if kokoro else {"output": (FLOAT, [1, 1, "N"])},
        metadata=_kokoro_metadata(len(records)) if kokoro else _piper_metadata(len(records)),
    )
    if kokoro:
        (folder / "voices.bin").write_bytes(np.zeros((len(records), 510, 1, 4), np.float32).tobytes())
    return manifest(folder, "tts", family, voices=records)


def _piper_pace() -> list[Node]:
    return [
        Node("Gather", ["scales", "one"], ["stretch"], {"axis": 0}),
        Node("Mul", ["stretch", "per_token"], ["count"]),
    ]


def _piper_metadata(speakers: int) -> dict[str, str | int]:
    common: dict[str, str | int] = {"sample_rate": 22_050, "n_speakers": speakers, "language": "Spanish", "voice": "es"}
    return common | {"comment": "piper", "has_espeak": 1, "model_type": "vits"}


def _kokoro_metadata(speakers: int) -> dict[str, str | int]:
    common: dict[str, str | int] = {"sample_rate": 24_000, "n_speakers": speakers, "language": "many", "voice": "en-us"}
    return common | {"model_type": "kokoro", "version": 2, "style_dim": "510,1,4", "has_espeak": 1, "comment": "Kokoro"}
