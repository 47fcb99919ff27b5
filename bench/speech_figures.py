"""How right and how late a dub is: word error rate, chrF and the figures of SimulEval. Pure.

SimulEval (Ma et al., "SimulEval: An Evaluation Toolkit for Simultaneous Translation", EMNLP 2020 demonstrations)
gives each target word a *delay*: how much of the source there was when it came out. Ours are computation-aware, on the
source's clock: a word comes out when its segment, sound and all, is in the client's hands. SimulEval looks at one
sentence at a time; a live session is one stream, so words are given to the sentences by their segments' source spans
(StreamLAAL, Papi et al. 2024, does it by the text, for want of spans).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_ORDERS = 6
_BETA = 2.0
_EDGE_S = 0.3
"""A segment that shares less than this with a sentence does not dub it: boundaries are only as exact as word times."""


@dataclass(frozen=True)
class Span:
    """A sentence of the source, in seconds."""

    start_s: float
    end_s: float


@dataclass(frozen=True)
class Piece:
    """A dubbed segment: what it dubs, when it was in our hands (seconds on the source's clock), and its words."""

    source: Span
    at_s: float
    words: tuple[str, ...]


def words_of(text: str) -> list[str]:
    """Words in lower case, without punctuation."""
    return re.findall(r"[\w'’-]+", text.lower())


def word_errors(truth: Sequence[str], heard: Sequence[str]) -> int:
    """Levenshtein distance in words. Divided by ``len(truth)`` it is the word error rate."""
    row = list(range(len(heard) + 1))
    for place, word in enumerate(truth, 1):
        before, row = row, [place]
        for other_place, other in enumerate(heard, 1):
            row.append(min(before[other_place] + 1, row[-1] + 1, before[other_place - 1] + (word != other)))
    return row[-1]


def chrf(hypothesis: str, reference: str) -> float:
    """chrF2 in [0, 100]: Popović, "chrF: character n-gram F-score for automatic MT evaluation" (WMT 2015).

    Precision and recall of character n-grams, n = 1 to 6, white space left out, each the mean over n; then their F
    score with β = 2, which counts recall twice as much. Orders that a text is too short for are left out of the means,
    as in sacreBLEU; upper and lower case and punctuation count.
    """
    precisions, recalls = [], []
    for order in range(1, _ORDERS + 1):
        ours, theirs = _ngrams(hypothesis, order), _ngrams(reference, order)
        if not ours or not theirs:
            continue
        common = sum((ours & theirs).values())
        precisions.append(common / sum(ours.values()))
        recalls.append(common / sum(theirs.values()))
    if not precisions:
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    if not precision or not recall:
        return 0.0
    return 100 * (1 + _BETA**2) * precision * recall / (_BETA**2 * precision + recall)


def _ngrams(text: str, order: int) -> Counter[str]:
    characters = "".join(text.split())
    return Counter(characters[place : place + order] for place in range(len(characters) - order + 1))


def delays_of(sentences: Sequence[Span], pieces: Sequence[Piece]) -> list[list[float]]:
    """For each sentence the delays of its target words, in seconds since its onset, in the order in which they came.

    A piece that dubs the end of a sentence and the beginning of the next gives each its share of the words, by time.
    """
    delays: list[list[float]] = [[] for _ in sentences]
    for piece in sorted(pieces, key=lambda piece: piece.at_s):
        shared = [_shared_s(sentence, piece.source) for sentence in sentences]
        total, given = sum(shared), 0
        if not total:
            continue
        so_far = 0.0
        for number, part in enumerate(shared):
            so_far += part
            until = round(len(piece.words) * so_far / total)
            delays[number] += [piece.at_s - sentences[number].start_s] * (until - given)
            given = until
    return delays


def _shared_s(sentence: Span, source: Span) -> float:
    shared_s = min(sentence.end_s, source.end_s) - max(sentence.start_s, source.start_s)
    return shared_s if shared_s > min(_EDGE_S, (sentence.end_s - sentence.start_s) / 2) else 0.0


def start_offset(delays: Sequence[float]) -> float:
    """SimulEval's StartOffset: delay of the first word of the target."""
    return delays[0]


def end_offset(delays: Sequence[float], source_s: float) -> float:
    """SimulEval's EndOffset: how long after the end of the source the last word of the target came out."""
    return delays[-1] - source_s


def laal(delays: Sequence[float], source_s: float, reference_words: int) -> float:
    """Length-Adaptive Average Lagging in seconds: Papi et al., "Over-Generation Cannot Be Rewarded: Length-Adaptive
    Average Lagging for Simultaneous Speech Translation" (AutoSimTrans 2022).

    Mean over the words i = 1 … τ of d(i) − (i − 1)·|X| / max(|Y|, |Y*|): an ideal interpreter would speak evenly over
    the source. |X| is the source's length, |Y| and |Y*| are the words of the dub and of the reference, and τ is the
    first word that came out when the source was over.
    """
    pace = source_s / max(len(delays), reference_words)
    lags = []
    for number, delay in enumerate(delays):
        lags.append(delay - number * pace)
        if delay >= source_s:
            break
    return sum(lags) / len(lags)
