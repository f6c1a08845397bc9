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
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float

from scalex.capture import Progress, Steer
from scalex.classifiers import Classifier, Pictures
from scalex.direction_files import Direction, stamped, variant_direction
from scalex.drawings import Drawings
from scalex.engine import fill
from scalex.errors import ScalexError
from scalex.jobs import Job
from scalex.records import Prompt
from scalex.semantics import Semantic, every, said
from scalex.stats import benjamini_hochberg, bootstrap_interval, resampling_plan, sign_flip_p
from scalex.steering import MOST, Push, together
from scalex.steering_vectors import steering_plan
from scalex.store import Store
from scalex.wording import doubles_article, tidy
from scalex.wording import fill as filled

__all__ = ["LEAST_SEEDS", "Edit", "Explanation", "Pruned", "Scenes", "Effect", "explain"]

LEAST_SEEDS = 6
"""Fewer seeds have too few sign patterns for any p below 0.05 once it is corrected."""

Edit: TypeAlias = Literal["steering", "words"]
"""How a semantic is put into a picture: by a direction at the probe, or by saying it in the prompt."""

_WITHOUT, _WITH = "without", "with"  # names of the two ends of a semantic among prompts
_SHUFFLES = 0  # the seed of the shuffled channels
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


class Scenes:
    """Pictures of concepts without and with semantics, on seeds that are the same for all.

    What is captured for directions is kept in a store, and pictures in `drawings`, where there are any: several
    classifiers can be asked about the same ones.

    Raises:
        ScalexError: a text is too long for the model, or brings an article to a template that has one; or alpha is no
            number, or beyond `scalex.steering.MOST`.
    """

    def __init__(
        self,
        job: Job,
        concepts: Sequence[str],
        semantics: Sequence[Semantic],
        store: Store,
        *,
        alpha: float = 1.0,
        edit: Edit = "steering",
        drawings: Drawings | None = None,
        progress: Progress | None = None,
    ) -> None:
        if not abs(alpha) <= MOST:
            raise ScalexError(f"alpha is {alpha}", f"It counts in the distance between the prompts: within {MOST:g}")
        self.job, self.concepts, self.alpha, self.edit = job, tuple(concepts), alpha, edit
        self._store, self._drawings, self._progress = store, drawings or Drawings(), progress
        self._plan = steering_plan(job.plan)
        self._directions: dict[str, dict[str, Direction]] = {}
        texts = [p.text for one in every(tuple(semantics)) for p in self._prompts(one)]
        job.model.check_texts(list(dict.fromkeys(texts)), job.spec.truncate)

    @property
    def first_seed(self) -> int:
        """The first seed that no direction was estimated from."""
        return max(self.job.seeds) + 1

    def text(self, concept: str) -> str:
        """The plain prompt that pictures are drawn of."""
        return _prompt(self.job.spec.templates[0], concept)

    def without(self, seeds: Sequence[int]) -> Pictures:
        """Plain pictures: all seeds of the first concept, then of the next."""
        return self._draw(seeds)

    def having(self, semantic: Semantic, seeds: Sequence[int]) -> Pictures:
        """The same pictures with a semantic."""
        if self.edit == "words":
            return self.worded(semantic, seeds)
        return self._pushed(self.directions(semantic), seeds)

    def worded(self, semantic: Semantic, seeds: Sequence[int]) -> Pictures:
        """The same seeds with the semantic said in the prompt; of several patterns each seed has the next one."""
        template, patterns = self.job.spec.templates[0], semantic.after
        turns = [(seed, patterns[i % len(patterns)]) for i, seed in enumerate(seeds)]
        asked = [(_prompt(template, said(pattern, c)), seed) for c in self.concepts for seed, pattern in turns]
        return self._drawings.pictures(self.job.model, asked, self.job.plan)

    def shuffled(self, semantic: Semantic, seeds: Sequence[int]) -> Pictures:
        """The same pictures, pushed along the semantic's directions with their channels shuffled."""
        channels, found = self.job.model.probe_shape[0], self.directions(semantic)
        return self._pushed({c: _shuffled(d, channels) for c, d in found.items()}, seeds)

    def directions(self, semantic: Semantic) -> dict[str, Direction]:
        """The direction of a semantic for each concept: the whole map, in the text reading of the last step."""
        if semantic.name not in self._directions:
            prompts = self._prompts(semantic)
            fill(self._store, self.job.model, prompts, self.job.seeds, self._plan, self._progress)
            recipe = self._plan.recipes(self.job.model)["text"]
            self._directions[semantic.name] = {
                concept: stamped(self._direction(semantic, concept, prompts, recipe), recipe)
                for concept in self.concepts
            }
        return self._directions[semantic.name]

    def _direction(self, semantic: Semantic, concept: str, prompts: Sequence[Prompt], recipe: Any) -> Direction:
        latents = self._store.read(recipe, [p for p in prompts if p.concept == concept], self.job.seeds)
        found = variant_direction(latents, concept, semantic.name, (_WITHOUT, _WITH))
        return replace(found, by_seed=None)  # a whole map a seed is much to hold, and seeds of pictures are others

    def _prompts(self, semantic: Semantic) -> list[Prompt]:
        """What is captured of a semantic: every concept without and with it, in every template."""
        ends = ((_WITHOUT, semantic.before), (_WITH, semantic.after))
        return [
            Prompt(_prompt(template, said(pattern, concept)), concept, template, semantic.name, end)
            for concept in self.concepts
            for end, patterns in ends
            for pattern in patterns
            for template in self.job.spec.templates
        ]

    def _pushed(self, directions: Mapping[str, Direction], seeds: Sequence[int]) -> Pictures:
        own = {c: {(self.text(c), seed): self.alpha for seed in seeds} for c in self.concepts}
        pushes = together(*(Push(directions[c], own[c]) for c in self.concepts))
        return self._draw(seeds, pushes)

    def _draw(self, seeds: Sequence[int], steer: Steer | None = None) -> Pictures:
        samples = [(self.text(c), seed) for c in self.concepts for seed in seeds]
        return self._drawings.pictures(self.job.model, samples, self.job.plan, steer)


def _prompt(template: str, words: str) -> str:
    if doubles_article(template, words):
        wrong = f"template {template!r} with {words!r} has two articles"
        raise ScalexError(wrong, "Take the article out of the concept or pattern, or out of the template")
    return tidy(filled(template, words))


def _shuffled(direction: Direction, channels: int) -> Direction:
    """The same numbers, the maps of channels exchanged: as long, and meaning nothing."""
    order = np.random.default_rng(_SHUFFLES).permutation(channels)
    vector = direction.vector.reshape(channels, -1)[order].ravel()
    return Direction(vector, replace(direction.of, name=f"{direction.name}, shuffled", origin="shuffled"))


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
    frontier, tested, pruned = list(semantics), list[Effect](), list[Pruned]()
    for level in count():
        found = search.level(frontier, level)
        with_finer = sorted((t for t in found if t.semantic.finer), key=lambda t: -abs(t.effect))
        opened = {t.semantic.name for t in with_finer[:beam]}
        tested += [replace(t, opened=t.semantic.name in opened) if t.semantic.finer else t for t in found]
        pruned += [Pruned(one, t.semantic) for t in with_finer[beam:] for one in every(t.semantic.finer)]
        frontier = [one for t in with_finer[:beam] for one in t.semantic.finer]
        if not frontier:
            break
    margin = (_MARGIN if classifier.unit == "probability" else 0.0) if margin is None else margin
    ranked = _ranked(tested, scenes.job.spec.rules.level, margin)
    if scenes.edit == "steering":
        ranked = [replace(t, shuffled=search.control(t)) if i < controls else t for i, t in enumerate(ranked)]
    named = classifier.classes[search.column] if classifier.classes else str(target)
    return Explanation(
        classifier.name,
        named,
        classifier.unit,
        scenes.concepts,
        seeds,
        scenes.alpha,
        scenes.edit,
        tuple(ranked),
        tuple(pruned),
        search.samples,
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

    def level(self, semantics: Sequence[Semantic], level: int) -> list[Effect]:
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
