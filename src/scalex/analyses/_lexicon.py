"""A vocabulary as a space to name directions in: words, their metric, and how near chance alone comes to a word.

Cosines are taken in the metric of the words' own covariance (see `_metric`).

A word's score is how near it is to the direction. A pair's score is how near the way from one word to another is: an
attribute is a way between words rather than a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from scalex.analyses._metric import FLAT, Metric, gaussian, metric_of
from scalex.errors import ScalexError
from scalex.records import Latents, Role

__all__ = ["Best", "Lexicon", "best_of", "chance", "lexicon"]

_ENDS = 40  # words at each end that are paired with those at the other
_BLOCK = 1 << 22  # numbers held at once: 32 MiB
_LEAST = 3  # words: of two, each is the other's opposite


@dataclass(frozen=True)
class Lexicon:
    """Words at one kept step, in the coordinates of their metric. W words, r coordinates.

    Attributes:
        names: of the words. latents: of each, not centred.
        points: the words' prompt-aligned latents, centred on their mean, in these coordinates.
    """

    names: tuple[str, ...]
    latents: Float[np.ndarray, "words templates seeds width"]
    metric: Metric
    points: Float[np.ndarray, "words r"]

    def cosines(self, units: Float[np.ndarray, "n r"]) -> Float[np.ndarray, "n words"]:
        """Of every direction with every word."""
        return np.asarray(units @ (self.points / self.lengths[:, None]).T)

    @property
    def lengths(self) -> Float[np.ndarray, "words"]:
        """Of the words, in the metric."""
        return np.asarray(np.maximum(np.linalg.norm(self.points, axis=1), np.finfo(float).tiny))


def lexicon(latents: Latents, step: int = -1) -> Lexicon:
    """The words that latents hold, and where they are not words as well, their concepts.

    Raises:
        ScalexError: there are too few, or they are all the same to the model.
    """
    places: dict[str, Role] = dict.fromkeys(latents.named("concept"), "concept")
    places |= dict.fromkeys(latents.named("word"), "word")
    if len(places) < _LEAST:
        wrong = f"a vocabulary of {len(places)} word{'s' * (len(places) != 1)} names nothing"
        raise ScalexError(wrong, "Add `words` to the spec, such as {vocabulary: objects}")
    values = np.stack([latents.of(name, step=step, role=role) for name, role in places.items()])
    means = values.mean((1, 2), dtype=np.float64)
    centred = means - means.mean(0)
    if np.abs(centred).max() <= FLAT * max(float(np.abs(means).max()), np.finfo(float).tiny):
        raise ScalexError("all words of the vocabulary give the same latents", "Check the prompts")
    metric = metric_of(centred)
    return Lexicon(tuple(places), values, metric, metric.place(centred))


class Best(NamedTuple):
    """The best that directions reach. n directions.

    Attributes:
        high, low: of the words, the greatest cosine and the greatest of the opposite direction.
        pair: the greatest cosine with the way from one word to another. start, end: these words' places.
    """

    high: Float[np.ndarray, "n"]
    low: Float[np.ndarray, "n"]
    pair: Float[np.ndarray, "n"]
    start: Int[np.ndarray, "n"]
    end: Int[np.ndarray, "n"]


def best_of(words: Lexicon, units: Float[np.ndarray, "n r"]) -> Best:
    """The best words and the best pair of every direction. Pairs join words from the two ends of the vocabulary."""
    parts = [_best(words, units[rows]) for rows in _blocks(len(units), words)]
    return Best(*map(np.concatenate, zip(*parts)))


def _best(words: Lexicon, units: Float[np.ndarray, "n r"]) -> Best:
    cosines, along = words.cosines(units), units @ words.points.T
    ends = min(_ENDS, len(words.names) // 2)
    order = np.argpartition(along, [ends - 1, along.shape[1] - ends], axis=1)
    low, high = order[:, :ends], order[:, -ends:]
    a, b = words.points[low], words.points[high]  # n, ends, r
    square = (a**2).sum(-1)[:, :, None] + (b**2).sum(-1)[:, None] - 2 * a @ b.transpose(0, 2, 1)
    rise = np.take_along_axis(along, high, 1)[:, None] - np.take_along_axis(along, low, 1)[:, :, None]
    pairs = (rise / np.sqrt(np.maximum(square, FLAT * square.max()))).reshape(len(units), -1)
    at, rows = pairs.argmax(1), np.arange(len(units))
    return Best(cosines.max(1), -cosines.min(1), pairs[rows, at], low[rows, at // ends], high[rows, at % ends])


def chance(words: Lexicon, draws: int, n_seeds: int, rng: np.random.Generator) -> tuple[Best, Best]:
    """What directions reach that name nothing, of two kinds.

    *Random*: Gaussian, with the covariance of the words' prompt-aligned latents. *Shuffled*: the mean over so many
    seeds of one word minus another, both drawn anew for every seed; they hold the noise of seeds too.
    """
    random = gaussian(words.points, draws, rng)
    shuffled = np.concatenate([words.metric.units(d) for d in _shuffled(words, draws, n_seeds, rng)])
    return best_of(words, random), best_of(words, shuffled)


def _shuffled(
    words: Lexicon, draws: int, n_seeds: int, rng: np.random.Generator
) -> Iterator[Float[np.ndarray, "n width"]]:
    n_words, _, there, width = words.latents.shape
    for rows in _blocks(draws, words, n_seeds * width):
        n = rows.stop - rows.start
        seeds = np.argsort(rng.random((n, max(there, n_seeds))), axis=1)[:, :n_seeds] % there
        first, second = rng.integers(n_words, size=(2, n, n_seeds))
        gap = words.latents[first, :, seeds].astype(np.float64) - words.latents[second, :, seeds]
        yield gap.mean((1, 2))


def _blocks(n: int, words: Lexicon, each: int = 0) -> Iterator[slice]:
    """Rows in blocks of bounded memory; every row takes its cosines, its pairs, or `each` numbers."""
    ends = min(_ENDS, len(words.names) // 2)
    size = max(1, _BLOCK // max(each, 2 * len(words.names), 3 * ends**2, 3 * ends * words.points.shape[1]))
    return (slice(i, min(i + size, n)) for i in range(0, n, size))
