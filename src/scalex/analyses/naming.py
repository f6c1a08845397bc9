"""Naming: a direction, wherever it comes from, in the words of a vocabulary; or that none of them fits.

Words are ranked by the cosine of their prompt-aligned latents with the direction, at both poles; so are pairs of words,
since an attribute is a way from one word to another. A name is only given where the best word, or the best pair, is
beyond the best that directions reach which mean nothing (see `_lexicon.chance`): the same maximum over the same
vocabulary, as Westfall and Young (1993, Resampling-Based Multiple Testing) take it. Else the answer is that no concept
of this vocabulary fits.

A direction that was learned from the same seeds as the words is applied to each seed as the other seeds show it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from scalex import directions, stats
from scalex.analyses._lexicon import Best, Lexicon, best_of, chance, lexicon
from scalex.analyses._outcome import Outcome
from scalex.analyses._planted import Planted
from scalex.analyses._rows import blank, join
from scalex.direction_files import Direction, directions_of
from scalex.errors import ScalexError
from scalex.records import Finding, Latents, Prompt, Reading, Role, Rules

__all__ = [
    "MEANS",
    "NAME",
    "NAMED",
    "PAIR",
    "POLES",
    "READINGS",
    "ROLES",
    "UNFIT",
    "Naming",
    "WordAt",
    "conclude",
    "explore",
    "name_direction",
    "namings",
    "planted",
]

NAME = "naming"
READINGS: tuple[Reading, ...] = ("text", "picture")
ROLES: tuple[Role, ...] = ("concept", "word")
MEANS = True
POLES = ("pole +", "pole -")
PAIR = "from pole to pole"
NAMED, UNFIT = "named", "no concept of this vocabulary fits"
TOP = 10
_TESTS = 3  # of a direction: both poles, and the pair
_SHUFFLED_SEEDS = 16  # of a shuffled direction, where the direction that is named has no seeds of its own


@dataclass(frozen=True)
class WordAt:
    """A word, or a pair of words, and how near it is to a direction, with its interval and the p of its maximum."""

    word: str
    cosine: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Naming:
    """A direction in words.

    Attributes:
        plus, minus: the words nearest to the direction and to its opposite, nearest first. Cosines of `minus` are those
            with the opposite. The p of each is adjusted for all words.
        pair: the way from one word to another that is nearest to the direction.
        beyond: the cosine that a word, and the one that a pair, must reach to be a name.
        n_words: in the vocabulary.
        reason: why there is nothing of all this; empty where there is.
    """

    direction: Direction
    plus: tuple[WordAt, ...] = ()
    minus: tuple[WordAt, ...] = ()
    pair: WordAt | None = None
    beyond: tuple[float, float] = (math.nan, math.nan)
    n_words: int = 0
    reason: str = ""

    def named(self, level: float = 0.95) -> bool:
        """Whether a word or a pair is beyond chance. Three are tested, both poles and the pair (Bonferroni)."""
        p = [best.p for best in (*self.plus[:1], *self.minus[:1], *filter(None, [self.pair]))]
        return min(p, default=1.0) <= _claim(level) / _TESTS

    @property
    def best(self) -> WordAt | None:
        """The best word of either pole, or the best pair, whichever is the further beyond chance."""
        found = [best for best in (*self.plus[:1], *filter(None, [self.pair]), *self.minus[:1])]
        return min(found, key=lambda best: best.p, default=None)

    @property
    def words(self) -> str:
        """What it is called, by its best."""
        if self.best is None:
            return ""
        return f"away from {self.best.word}" if self.best in self.minus else self.best.word


def namings(
    named: Sequence[Direction], latents: Latents, rules: Rules, *, step: int = -1, top: int = TOP
) -> list[Naming]:
    """Names of several directions in the words of the same latents, as `name_direction`.

    Raises:
        ScalexError: as `name_direction`.
    """
    words = lexicon(latents, step)
    plan = directions.plan_of(latents, rules)
    made: dict[int, tuple[Best, Best]] = {}  # shuffled directions hold the noise of as many seeds
    found = []
    for direction in named:
        n_seeds = direction.n_seeds or _SHUFFLED_SEEDS
        if n_seeds not in made:
            made[n_seeds] = chance(words, rules.resamples, n_seeds, np.random.default_rng(rules.seed))
        found.append(_Namer(words, latents.seeds, plan, rules, made[n_seeds]).name(direction, top))
    return found


def name_direction(direction: Direction, latents: Latents, rules: Rules, *, step: int = -1, top: int = TOP) -> Naming:
    """A direction in the words (and concepts) of latents of the same reading.

    Args:
        step: index of the kept step whose words are read. top: how many words at each pole are given.

    Raises:
        ScalexError: fewer than three words, words that are all the same, too few seeds, or another width.
    """
    return namings([direction], latents, rules, step=step, top=top)[0]


@dataclass(frozen=True)
class _Namer:
    words: Lexicon
    seeds: tuple[int, ...]
    plan: stats.ResamplingPlan
    rules: Rules
    null: tuple[Best, Best]

    def name(self, direction: Direction, top: int) -> Naming:
        width = self.words.metric.axes.shape[1]
        if len(direction.vector) != width:
            wrong = f"direction {direction.name!r} has width {len(direction.vector)}"
            raise ScalexError(f"{wrong}, but the words {width}", "Take one of the same probe")
        unit = self.words.metric.units(direction.vector[None].astype(np.float64))
        if not np.abs(direction.vector).max() > 0 or not np.abs(unit).max() > 0:
            return Naming(direction, n_words=len(self.words.names), reason="the direction has no length")
        scores = self._scores(direction)
        cosines = scores.mean((1, 2)) / self.words.lengths
        order, found = np.argsort(-cosines, kind="stable"), best_of(self.words, unit)
        top = min(top, len(order))
        a, b = int(found.start[0]), int(found.end[0])
        gap = float(np.linalg.norm(self.words.points[b] - self.words.points[a]))
        names = self.words.names
        return Naming(
            direction,
            tuple(self._at(names[i], scores[i] / self.words.lengths[i], "high") for i in order[:top]),
            tuple(self._at(names[i], -scores[i] / self.words.lengths[i], "low") for i in order[::-1][:top]),
            self._at(f"{names[a]} → {names[b]}", (scores[b] - scores[a]) / gap, "pair"),
            (self._needed("high"), self._needed("pair")),
            len(names),
        )

    def _scores(self, direction: Direction) -> Float[np.ndarray, "words templates seeds"]:
        """Every sample's product with the direction as the other seeds show it, less that of all words: its mean over
        the word's length is the word's cosine."""
        whole = direction.vector[None].astype(np.float64)
        along, words, metric = direction.without(self.seeds), self.words, self.words.metric
        weights = (metric.place(along) * metric.gains) @ metric.axes / float(metric.lengths(whole)[0])
        scores = np.einsum("wtsd,sd->wts", words.latents, weights, optimize=True)
        return np.asarray(scores - scores.mean(0))

    def _at(self, word: str, scores: Float[np.ndarray, "templates seeds"], kind: str) -> WordAt:
        low, high = stats.bootstrap_interval(self.plan, scores, self.rules.level)
        return WordAt(word, float(scores.mean()), low, high, self._p(float(scores.mean()), kind))

    def _p(self, cosine: float, kind: str) -> float:
        """The larger of the shares of random and of shuffled directions whose best comes as near."""
        draws = [getattr(null, kind) for null in self.null]
        return max((1 + int((d >= cosine).sum())) / (1 + len(d)) for d in draws)

    def _needed(self, kind: str) -> float:
        strict = 1 - _claim(self.rules.level) / _TESTS
        return max(float(np.quantile(getattr(null, kind), strict)) for null in self.null)


def _claim(level: float) -> float:
    """How often nothing may be given a name: half as often as a finding may be wrong, since a wrong name misleads more
    than none does."""
    return (1 - level) / 2


# ---------------------------------------------------------------------------------------------------- in an audit


def explore(latents: Latents, attributes: Mapping[str, Sequence[str]], rules: Rules) -> Outcome:
    """Names of the attributes' directions: the best word at each pole, the best pair, and a table of the first words.

    Raises:
        ScalexError: too few seeds, or something was not captured.
    """
    named = directions_of(latents, attributes)
    if not named:
        return Outcome([], {})
    try:
        found = namings(named, latents, rules)
    except ScalexError as error:  # nothing to name them in: each direction says so
        found = [Naming(direction, reason=error.wrong) for direction in named]
    return Outcome([row for naming in found for row in _findings(naming, latents)], {"words": _table(found)})


def _findings(naming: Naming, latents: Latents) -> Iterator[Finding]:
    places = {POLES[0]: naming.plus, POLES[1]: naming.minus, PAIR: tuple(filter(None, [naming.pair]))}
    for attribute, words in places.items():
        row = blank(NAME, latents, naming.direction.name, attribute, "cosine", latents.n_templates)
        if not words:
            yield replace(row, verdict=UNFIT, reason=join(naming.reason, row.reason))
            continue
        best, needed = words[0], naming.beyond[attribute == PAIR]
        said = f"the nearest of {naming.n_words} words; a name must reach about {needed:.2f}"
        row = replace(row, value=best.word, reason=join(said, row.reason))
        yield replace(row, estimate=best.cosine, low=best.low, high=best.high, p=best.p)


def _table(found: Sequence[Naming]) -> pd.DataFrame:
    """The first words at both poles: direction, pole, rank, word, cosine, low, high, p, beyond."""
    rows = [
        (naming.direction.name, pole, rank, w.word, w.cosine, w.low, w.high, w.p, naming.beyond[0])
        for naming in found
        for pole, words in zip(POLES, (naming.plus, naming.minus))
        for rank, w in enumerate(words, start=1)
    ]
    return pd.DataFrame(rows, columns=["direction", "pole", "rank", "word", "cosine", "low", "high", "p", "beyond"])


def conclude(finding: Finding, attributes: Mapping[str, Sequence[str]], rules: Rules) -> Finding:
    """The finding with its verdict, once q is known: a name, or that nothing fits."""
    if finding.verdict:
        return finding
    fits = finding.q <= _claim(rules.level)
    return replace(finding, verdict=NAMED if fits else UNFIT, reason=join(f"q {finding.q:.2g}", finding.reason))


# ---------------------------------------------------------------------------------------------------- a known answer


def planted(rng: np.random.Generator) -> Planted:
    """A vocabulary in which `dress` and `beard` lie along the two ways of an attribute; and one in which none does."""
    readings = {r: _latents(rng, r, 6.0) for r in READINGS}
    null = {r: _latents(rng, r, 0.0) for r in READINGS}
    attributes = {"gender": ("man", "woman")}

    def wrong(found: Sequence[Finding]) -> list[str]:
        told = {POLES[0]: "dress", POLES[1]: "beard"}
        rows = [f for f in found if f.attribute in told]
        bad = [f for f in rows if f.value != told[f.attribute] or f.verdict != NAMED]
        return [f"{f.reading} {f.attribute}: {f.value}, {f.verdict}" for f in bad] or ([] if rows else ["no rows"])

    def claims(found: Sequence[Finding]) -> int:
        return sum(f.verdict == NAMED for f in found)

    return Planted(readings, attributes, wrong, null, claims)


def _latents(rng: np.random.Generator, reading: Reading, apart: float) -> Latents:
    n_seeds, width, n_words = 12, 48, 60
    shared, axis = rng.normal(size=(n_seeds, width)), np.linalg.qr(rng.normal(size=(width, 1)))[0][:, 0]
    lean = {"dress": apart, "beard": -apart}
    forms = {("", ""): 0.0, ("gender", "man"): -apart / 2, ("gender", "woman"): apart / 2}
    prompts: list[Prompt] = []
    places: list[Float[np.ndarray, "width"]] = []
    for concept in ("pilot", "nurse", "cook"):
        base = 2 * rng.normal(size=width)
        for (attribute, value), along in forms.items():
            prompts.append(Prompt(f"{value} {concept}", concept, "{}", attribute, value))
            places.append(base + along * axis)
    for word in ["dress", "beard", *(f"word {i}" for i in range(n_words - 2))]:
        prompts.append(Prompt(word, word, "{}", role="word"))
        places.append(lean[word] * axis if word in lean and apart else rng.normal(size=width))
    noise = rng.normal(size=(len(prompts), n_seeds, width))
    values = np.stack(places)[:, None] + shared + noise
    return Latents(values[:, :, None].astype(np.float32), tuple(prompts), tuple(range(n_seeds)), (0,), reading)
