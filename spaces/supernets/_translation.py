"""Translation tasks: a made-up pair of languages, generated, and a user's own tokens."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from archfront.spaces._data import data_folder
from archfront.spaces._errors import DataError, UnknownNameError
from archfront.spaces._metric import METRICS
from archfront.spaces._task import SPLITS, Signature, Split, Task, TensorSpec
from archfront.spaces.vision._arrays import WHOLE, completed

__all__ = ["PADDING", "TRANSLATIONS", "Translation", "translation"]

PADDING, BEGIN, END = 0, 1, 2
EXPECTED = "give --data an .npz file with integer arrays 'source' and 'target', rows padded with 0"

Tokens = NDArray[np.int64]
Pair = tuple[Tokens, Tokens]
"""Source and target sentences, (rows, length) each, padded at the end with 0."""


class Translation(Task):
    """Logits (n, length, vocabulary) against target tokens (n, length); the model is given the tokens before each.

    Padding does not count. Metrics: error (share of wrong tokens, the end token included), nll, perplexity.
    """

    def loss(self, output: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
        return functional.cross_entropy(
            output.flatten(0, 1), target.flatten(), ignore_index=PADDING, label_smoothing=smoothing
        )

    def score(self, output: Tensor, target: Tensor) -> dict[str, float]:
        words = target != PADDING
        logits, wanted = output[words], target[words]
        nll = functional.cross_entropy(logits, wanted, reduction="none").double().mean()
        error = (logits.argmax(dim=1) != wanted).double().mean()
        return {"error": float(error), "nll": float(nll), "perplexity": float(nll.exp())}

    def reference(self, metric: str) -> float | None:
        """For the error: that of always answering the commonest token."""
        if metric != "error":
            return super().reference(metric)
        target = self.split("val").target
        counts = target[target != PADDING].bincount()
        return 1.0 - float(counts.max() / counts.sum())


def translation(name: str, *, data: Path | None, seed: int) -> Translation:
    """The task `name` on its own sentences, generated or refused when a split is first asked for, or on a user's file.

    A file's vocabulary is its array `vocabulary`, else the ids that occur, at least as many as the task has by itself.
    Raises UnknownNameError, and DataError for a file that does not fit.
    """
    if name not in TRANSLATIONS:
        raise UnknownNameError.of("translation task", name, TRANSLATIONS)
    named = TRANSLATIONS[name]
    if data is None:
        return _task(name, named.lengths, named.vocabulary, lambda: _splits(named.read(seed), BEGIN, seed))
    pairs, stated = _read_npz(data)
    largest = max(int(tokens.max()) for pair in pairs.values() for tokens in pair)
    if stated is not None and largest >= stated:
        raise DataError(
            f"{data.name}: 'vocabulary' is {stated} and the largest id {largest}", "ids are 0..vocabulary-1"
        )
    splits = _splits(pairs, END, seed)  # fairseq's decoder begins with the end token: official weights know no other
    lengths = (splits["train"].inputs[0].shape[1], splits["train"].inputs[1].shape[1])
    return _task(name, lengths, stated or max(named.vocabulary, largest + 1), lambda: splits)


def _task(name: str, lengths: tuple[int, int], vocabulary: int, load: Callable[[], Mapping[str, Split]]) -> Translation:
    inputs = tuple(TensorSpec((length,), "int64", vocabulary) for length in lengths)
    metrics = (METRICS["error"], METRICS["nll"], METRICS["perplexity"])
    return Translation(name, Signature("token_classification", inputs, vocabulary), metrics, load)


def _splits(pairs: Mapping[str, Pair], begin: int, seed: int) -> dict[str, Split]:
    """Train, val and test; what is missing is cut from the rest. All rows of a side get the same length."""
    longest = [max(pair[side].shape[1] for pair in pairs.values()) for side in (0, 1)]
    sources = {part: _padded(pair[0], longest[0]) for part, pair in pairs.items()}
    targets = {part: _padded(pair[1], longest[1]) for part, pair in pairs.items()}
    rows_of = completed({part: len(pair[0]) for part, pair in pairs.items()}, None, seed)
    return {name: _split(sources[part][rows], targets[part][rows], begin) for name, (part, rows) in rows_of.items()}


def _padded(tokens: Tokens, length: int) -> Tokens:
    return np.pad(tokens, ((0, 0), (0, length - tokens.shape[1])), constant_values=PADDING)


def _split(source: Tokens, target: Tokens, begin: int) -> Split:
    """The decoder reads the begin token and all target tokens but the last one."""
    previous = np.concatenate([np.full((len(target), 1), begin), target[:, :-1]], axis=1)
    return Split((torch.from_numpy(source), torch.from_numpy(previous)), torch.from_numpy(target))


# -- a user's file


def _read_npz(path: Path) -> tuple[dict[str, Pair], int | None]:
    """The parts of an .npz file, {"all"} from `source` and `target` or those of `source_train` ... that it has, and its
    `vocabulary` if it says. Raises DataError that names array and value."""
    arrays = _arrays_of(path)
    if "source" in arrays:
        names = {WHOLE: ("source", "target")}
    else:
        names = {part: (f"source_{part}", f"target_{part}") for part in SPLITS if f"source_{part}" in arrays}
        if "train" not in names:
            raise _missing(path, "source_train" if names else "source", arrays)
    pairs = {}
    for part, (source, target) in names.items():
        if target not in arrays:
            raise _missing(path, target, arrays)
        one, other = (_checked(arrays[name], f"{path.name}: {name!r}") for name in (source, target))
        if len(one) != len(other):
            raise DataError(
                f"{path.name}: {source!r} has {len(one)} rows and {target!r} has {len(other)}", "they must agree"
            )
        pairs[part] = one, other
    return pairs, _vocabulary(arrays["vocabulary"], path) if "vocabulary" in arrays else None


def _arrays_of(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file; those that nobody asks for are not read."""
    if path.is_dir():
        raise DataError(f"{str(path)!r} is a folder", EXPECTED)
    name = ""
    try:
        with path.open("rb") as stream:  # np.load leaves its own open where the archive is damaged
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise DataError(f"{path.name} holds one array without a name", EXPECTED)
            arrays = {}
            for name in file.files:
                wanted = name.partition("_")[0] in ("source", "target", "vocabulary")
                arrays[name] = file[name] if wanted else np.empty(0)
            return arrays
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        what = f"{path.name}: array {name!r} cannot be read" if name else f"{path.name} is not an .npz file"
        raise DataError(what, f"{type(error).__name__}: {error}") from error


def _missing(path: Path, name: str, arrays: Mapping[str, Any]) -> DataError:
    return DataError(f"{path.name} has no array {name!r}", f"it has {', '.join(sorted(arrays)) or 'nothing'}")


def _checked(array: NDArray[Any], what: str) -> Tokens:
    """Token ids (rows, length) with at least one token in each row, and padding at the end of rows only."""
    if array.ndim != 2 or array.dtype.kind not in "iu" or 0 in array.shape:
        raise DataError(
            f"{what} has shape {array.shape} and dtype {array.dtype}", "expected (rows, length) integers, padded with 0"
        )
    tokens = array.astype(np.int64)
    if tokens.min() < 0:
        raise DataError(f"{what} has the id {tokens.min()}", "ids are 0 (padding) or larger")
    words = tokens != PADDING
    for row in np.flatnonzero(~words[:, 0] | (words[:, 1:] & ~words[:, :-1]).any(axis=1)):
        problem = "has no token" if not words[row].any() else "has padding before a token"
        raise DataError(f"{what}: row {row} {problem}: {tokens[row].tolist()}", "pad rows with 0 at the end")
    return tokens


def _vocabulary(array: NDArray[Any], path: Path) -> int:
    if array.ndim != 0 or array.dtype.kind not in "iu":
        raise DataError(
            f"{path.name}: 'vocabulary' has shape {array.shape} and dtype {array.dtype}", "expected one integer"
        )
    return int(array)


# -- the made-up languages

_PLURAL = 3
_NOUNS, _VERBS, _ADJECTIVES, _ADVERBS = range(4, 16), range(16, 24), range(24, 32), range(32, 36)
_TRANSLATED = 32
"""A word's translation is the id behind it by so much: 36..67."""
_NOUN_SUFFIX, _ADJECTIVE_SUFFIX, _VERB_SUFFIX = 68, 69, 73
_VOCABULARY, _LENGTH = 75, 16
_SENTENCES = {"train": 2000, "val": 400, "test": 400}


@dataclass(frozen=True)
class _NounPhrase:
    """Adjectives, noun, plural mark -> noun, plural suffix, adjectives in reverse with a suffix for gender and number.

    Every other noun of the target language is feminine: this must be learned word by word.
    """

    noun: int
    plural: bool
    adjectives: tuple[int, ...]

    def source(self) -> list[int]:
        return [*self.adjectives, self.noun, *([_PLURAL] if self.plural else [])]

    def target(self) -> list[int]:
        suffix = _ADJECTIVE_SUFFIX + 2 * (self.noun % 2) + self.plural
        described = [token for word in reversed(self.adjectives) for token in (word + _TRANSLATED, suffix)]
        return [self.noun + _TRANSLATED, *([_NOUN_SUFFIX] if self.plural else []), *described]


@dataclass(frozen=True)
class _Sentence:
    """Subject, verb, object, adverb -> adverb, subject, object, verb, suffix for the number of the subject."""

    subject: _NounPhrase
    verb: int
    object: _NounPhrase | None
    adverb: int | None

    def source(self) -> list[int]:
        behind = [] if self.object is None else self.object.source()
        last = [] if self.adverb is None else [self.adverb]
        return [*self.subject.source(), self.verb, *behind, *last, END]

    def target(self) -> list[int]:
        first = [] if self.adverb is None else [self.adverb + _TRANSLATED]
        between = [] if self.object is None else self.object.target()
        verb = [self.verb + _TRANSLATED, _VERB_SUFFIX + self.subject.plural]
        return [*first, *self.subject.target(), *between, *verb, END]


def _toy(seed: int) -> dict[str, Pair]:
    """Distinct sentences, drawn from `seed`, in every split."""
    rng = np.random.default_rng(seed)
    drawn: dict[_Sentence, None] = {}
    while len(drawn) < sum(_SENTENCES.values()):
        drawn[_sentence(rng)] = None
    sentences, pairs = list(drawn), {}
    for part, number in _SENTENCES.items():
        chosen, sentences = sentences[:number], sentences[number:]
        pairs[part] = _rows([s.source() for s in chosen]), _rows([s.target() for s in chosen])
    return pairs


def _rows(sentences: list[list[int]]) -> Tokens:
    return np.array([[*tokens, *[PADDING] * (_LENGTH - len(tokens))] for tokens in sentences], np.int64)


def _sentence(rng: np.random.Generator) -> _Sentence:
    """Two of three have an object, every second one an adverb."""
    subject, verb = _noun_phrase(rng), _one_of(_VERBS, rng)
    thing = _noun_phrase(rng) if rng.integers(3) else None
    return _Sentence(subject, verb, thing, _one_of(_ADVERBS, rng) if rng.integers(2) else None)


def _noun_phrase(rng: np.random.Generator) -> _NounPhrase:
    adjectives = tuple(_one_of(_ADJECTIVES, rng) for _ in range(rng.integers(3)))
    return _NounPhrase(_one_of(_NOUNS, rng), bool(rng.integers(2)), adjectives)


def _one_of(words: range, rng: np.random.Generator) -> int:
    return words[int(rng.integers(len(words)))]


# -- what has a name


def _wmt(seed: int) -> dict[str, Pair]:
    raise DataError(f"task 'wmt14_en_de' has no data of its own in {str(data_folder())!r}", EXPECTED)


@dataclass(frozen=True)
class _Named:
    """Lengths of source and target, size of the joint vocabulary, how sentences are made."""

    lengths: tuple[int, int]
    vocabulary: int
    read: Callable[[int], dict[str, Pair]]


TRANSLATIONS: Mapping[str, _Named] = {
    "toy_translation": _Named((_LENGTH, _LENGTH), _VOCABULARY, _toy),
    # HAT measures with sentences of 30 tokens; its joint vocabulary of byte pairs has 32,768 entries
    "wmt14_en_de": _Named((30, 30), 32_768, _wmt),
}
