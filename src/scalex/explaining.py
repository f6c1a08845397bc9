"""What moves a classifier's decision? Semantics are steered into pictures, from coarse to fine, and the scores watched.

For each semantic and concept a direction is taken at the probe (with it minus without it), and the same seeds are
drawn with and without alpha times it. The *effect* is the mean change of the classifier's score for one class, paired
by seed, with a bootstrap interval over seeds, a sign-flip p, and q over all that was tested.

After the idea of DiffEx (Kazimi, Allada and Yanardag 2024, arXiv 2412.18604): a hierarchy of semantics, searched with a
beam. There the semantics come from a vision-language model and edits are made by text. Here the hierarchy is the
user's, effects have intervals, and edits are directions at the probe. A direction may drag along what it should not, so
what it does counts as far as saying the semantic in the prompt does so too. So that what opened a branch does not also
test it, each level of the search draws seeds of its own, and none that directions were estimated from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np
from jaxtyping import Float

from scalex.capture import Progress
from scalex.classifiers import Classifier, Pictures
from scalex.errors import ScalexError
from scalex.scenes import Edit, Scenes
from scalex.semantics import Semantic, every
from scalex.stats import benjamini_hochberg, bootstrap_interval, resampling_plan, sign_flip_p

__all__ = ["LEAST_SEEDS", "Effect", "Explanation", "Pruned", "Samples", "explain"]

LEAST_SEEDS = 6
"""Fewer seeds have too few sign patterns for any p below 0.05 once it is corrected."""

_RAISES, _LOWERS, _HARDLY, _UNSEEN = "raises it", "lowers it", "hardly moves it", "not seen to move it"
_ALONE = ", words do not"
_MARGIN = 0.05  # of a probability
_SIDE = 256  # pixels of the pictures that are kept to be looked at, about


@dataclass(frozen=True)
class Effect:
    """One semantic, and what pushing on it did to the class's score.

    Attributes:
        level: of the search, from 0. before, after: the mean score. effect: after minus before, with its interval; NaN
            where all seeds are alike.
        p: that it is zero, by sign flips of seeds. q: after correction over all that was tested.
        flipped: share of pictures in which the class became, or ceased to be, the one with the highest score.
        changed: how far pictures moved: root mean square over pixels, of the range of a pixel. Near 0, the semantic was
            not shown, and nothing is said of it.
        shuffled: the effect of the same direction with its channels shuffled; NaN where that was not measured.
        worded: the effect of saying it in the prompt instead, on the same seeds, where steering seemed to have one; a
            direction may drag along what its semantic is not. confirmed: whether that goes the same way, p <= 0.05;
            None where words were not tried.
        by_concept: the effect on each concept.
        verdict: "raises it", "lowers it", either with ", words do not", "hardly moves it" where the whole interval lies
            within the margin, or "not seen to move it": never that there is no effect.
        opened: whether its finer kinds were tested; None where it has none.
    """

    semantic: Semantic
    level: int
    before: float
    after: float
    effect: float
    low: float
    high: float
    p: float
    q: float
    flipped: float
    changed: float
    by_concept: Mapping[str, float]
    worded: float = math.nan
    confirmed: bool | None = None
    shuffled: float = math.nan
    verdict: str = ""
    opened: bool | None = None

    @property
    def agreed(self) -> float:
        """The size of the effect that a ranking trusts: the smaller one of steering and of words, where both are known,
        and 0 where they part."""
        if math.isnan(self.worded):
            return abs(self.effect)
        return min(abs(self.effect), abs(self.worded)) if self.effect * self.worded > 0 else 0.0

    @property
    def moves(self) -> bool:
        """Whether it was seen to move the score by more than the margin, and words did not contradict."""
        return self.verdict in (_RAISES, _LOWERS)


@dataclass(frozen=True)
class Pruned:
    """A semantic that was not tested, and the coarser one whose effect was too small to be opened."""

    semantic: Semantic
    below: Semantic


@dataclass(frozen=True)
class Explanation:
    """What was tested: first what was seen to move the score, the strongest (`Effect.agreed`) first; then the others.

    Attributes:
        samples: by semantic, the first pictures without and with it, and their scores.
    """

    classifier: str
    target: str
    unit: str
    concepts: tuple[str, ...]
    seeds: int
    alpha: float
    edit: Edit
    tested: tuple[Effect, ...]
    pruned: tuple[Pruned, ...]
    samples: Mapping[str, Samples] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class Samples:
    """Pictures of the same seeds without and with a semantic, and the class's score of each."""

    before: Pictures
    after: Pictures
    scores: Float[np.ndarray, "2 n"]


# ---------------------------------------------------------------------------------------------------- the search


def explain(
    classifier: Classifier,
    target: str | int,
    semantics: Sequence[Semantic],
    scenes: Scenes,
    *,
    seeds: int = 16,
    beam: int = 3,
    controls: int = 3,
    margin: float | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Ranks the semantics that move a classifier's score for a class, from coarse to fine.

    A level's semantics are all tested, on seeds of that level. Of those that have finer kinds, the `beam` with the
    largest effect either way are opened: their kinds are the next level. All others' kinds are left out, and said so.

    Args:
        target: the class, by name, or by number where the classifier has no names.
        seeds: of each level's pictures, for each concept. beam: how many semantics a level opens.
        controls: how many of the strongest are also pushed with shuffled channels, where `scenes` steer.
        margin: what change of the score is of no interest; None is 0.05 of a probability, and 0 of other scores.
        progress: called with the semantics tested and those known to be left.

    Raises:
        ScalexError: there is no such class, seeds are too few, or as the classifier and the model raise.
    """
    if seeds < LEAST_SEEDS:
        raise ScalexError(f"{seeds} seeds carry no test", f"Use at least {LEAST_SEEDS}")
    search = _Search(classifier, target, scenes, seeds, progress)
    tested, pruned = search.run(semantics, beam)
    margin = (_MARGIN if classifier.unit == "probability" else 0.0) if margin is None else margin
    ranked = _ranked(tested, scenes.job.spec.rules.level, margin)
    if scenes.edit == "steering":
        ranked = [replace(t, shuffled=search.control(t)) if i < controls else t for i, t in enumerate(ranked)]
    return Explanation(
        classifier=classifier.name,
        target=classifier.classes[search.column] if classifier.classes else str(target),
        unit=classifier.unit,
        concepts=scenes.concepts,
        seeds=seeds,
        alpha=scenes.alpha,
        edit=scenes.edit,
        tested=tuple(ranked),
        pruned=tuple(pruned),
        samples=search.samples,
    )


def _ranked(tested: Sequence[Effect], level: float, margin: float) -> list[Effect]:
    """With q and verdict; what moves the score first, and the largest agreed effects first."""
    q = benjamini_hochberg(np.array([t.p for t in tested]))
    judged = [replace(t, q=float(one), verdict=_verdict(t, float(one), level, margin)) for t, one in zip(tested, q)]
    return sorted(judged, key=lambda t: (not t.moves, t.verdict in (_HARDLY, _UNSEEN), -t.agreed))


def _verdict(tested: Effect, q: float, level: float, margin: float) -> str:
    if -margin < tested.low and tested.high < margin:
        return _HARDLY
    if not q <= 1 - level:
        return _UNSEEN
    return (_RAISES if tested.effect > 0 else _LOWERS) + (_ALONE if tested.confirmed is False else "")


class _Search:
    """One classifier's scores of pictures, level by level."""

    _SHOWN = 8  # pictures of each semantic that are kept to be looked at

    def __init__(
        self, classifier: Classifier, target: str | int, scenes: Scenes, seeds: int, progress: Progress | None
    ) -> None:
        self._classifier, self._scenes, self._seeds, self._progress = classifier, scenes, seeds, progress
        self._rules = scenes.job.spec.rules
        rng = np.random.default_rng(self._rules.seed)
        self._resampling = resampling_plan(1, seeds, self._rules.resamples, rng, self._rules.permutations)
        self.samples: dict[str, Samples] = {}
        self._done = 0
        plain = scenes.without(self._of(0))  # a wrong class or classifier is said before anything is captured
        self._plain = (0, plain, classifier(plain))
        self.column = classifier.column(target, self._plain[2].shape[1])

    def run(self, semantics: Sequence[Semantic], beam: int) -> tuple[list[Effect], list[Pruned]]:
        """All levels, and what they leave out."""
        frontier, tested, pruned = list(semantics), list[Effect](), list[Pruned]()
        for level in count():
            found = self._level(frontier, level)
            with_finer = sorted((t for t in found if t.semantic.finer), key=lambda t: -abs(t.effect))
            opened, closed = with_finer[:beam], with_finer[beam:]
            names = {t.semantic.name for t in opened}
            tested += [replace(t, opened=t.semantic.name in names) if t.semantic.finer else t for t in found]
            pruned += [Pruned(one, t.semantic) for t in closed for one in every(t.semantic.finer)]
            frontier = [one for t in opened for one in t.semantic.finer]
            if not frontier:
                break
        return tested, pruned

    def _level(self, semantics: Sequence[Semantic], level: int) -> list[Effect]:
        """All semantics of a level, tested."""
        found = []
        for semantic in semantics:
            found.append(self._test(semantic, level))
            self._done += 1
            if self._progress:
                self._progress(self._done, self._done + len(semantics) - len(found))
        return found

    def control(self, tested: Effect) -> float:
        """The effect of a tested semantic's directions once their channels are shuffled."""
        pictures = self._scenes.shuffled(tested.semantic, self._of(tested.level))
        _, scores = self._before(tested.level)
        return float((self._classifier(pictures) - scores)[:, self.column].mean())

    def _of(self, level: int) -> range:
        first = self._scenes.first_seed + level * self._seeds
        return range(first, first + self._seeds)

    def _before(self, level: int) -> tuple[Pictures, Float[np.ndarray, "n classes"]]:
        if self._plain[0] != level:
            plain = self._scenes.without(self._of(level))
            self._plain = (level, plain, self._classifier(plain))
        return self._plain[1:]

    def _test(self, semantic: Semantic, level: int) -> Effect:
        before, first = self._before(level)
        after = self._scenes.having(semantic, self._of(level))
        second = self._classifier(after)
        change = self._change(first, second)
        by_seed = change.mean(0)[None]
        p = sign_flip_p(self._resampling, by_seed)
        low, high = bootstrap_interval(self._resampling, by_seed, self._rules.level)
        self._keep(semantic, before, after, np.stack([first, second])[:, :, self.column])
        won = [scores.argmax(1) == self.column for scores in (first, second)]
        return Effect(
            semantic,
            level,
            float(first[:, self.column].mean()),
            float(second[:, self.column].mean()),
            float(by_seed.mean()),
            low,
            high,
            p,
            math.nan,
            float((won[0] != won[1]).mean()),
            _apart(before, after),
            dict(zip(self._scenes.concepts, map(float, change.mean(1)), strict=True)),
            *self._in_words(semantic, level, float(by_seed.mean()), p),
        )

    def _in_words(self, semantic: Semantic, level: int, effect: float, p: float) -> tuple[float, bool | None]:
        """The effect of saying it, and whether that goes the same way; where steering seemed to have one."""
        alpha = 1 - self._rules.level
        if self._scenes.edit == "words" or p > alpha:
            return math.nan, None
        _, first = self._before(level)
        by_seed = self._change(first, self._classifier(self._scenes.worded(semantic, self._of(level)))).mean(0)[None]
        found = float(by_seed.mean())
        return found, found * effect > 0 and sign_flip_p(self._resampling, by_seed) <= alpha

    def _change(
        self, first: Float[np.ndarray, "n classes"], second: Float[np.ndarray, "n classes"]
    ) -> Float[np.ndarray, "concepts seeds"]:
        return np.asarray((second - first)[:, self.column].reshape(len(self._scenes.concepts), self._seeds))

    def _keep(self, semantic: Semantic, before: Pictures, after: Pictures, scores: Float[np.ndarray, "2 n"]) -> None:
        """The first seeds of every concept in turn, not the most telling ones."""
        n = len(self._scenes.concepts)
        shown = [concept * self._seeds + seed for seed in range(self._seeds) for concept in range(n)][: self._SHOWN]
        by = max(1, before.shape[1] // _SIDE)
        self.samples[semantic.name] = Samples(before[shown, ::by, ::by], after[shown, ::by, ::by], scores[:, shown])


def _apart(before: Pictures, after: Pictures) -> float:
    squares = [float(((a.astype(np.float64) - b) ** 2).mean()) for a, b in zip(before, after, strict=True)]
    return math.sqrt(float(np.mean(squares))) / 255
