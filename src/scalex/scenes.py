"""Scenes: pictures of concepts without and with a semantic, put in at the probe or by words, on the same seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np

from scalex.capture import Progress, Steer
from scalex.classifiers import Pictures
from scalex.direction_files import Direction, stamped, variant_direction
from scalex.drawings import Drawings
from scalex.engine import fill
from scalex.errors import ScalexError
from scalex.jobs import Job
from scalex.records import Prompt
from scalex.semantics import Semantic, every, said
from scalex.steering import MOST, Push, shuffled_channels, together
from scalex.steering_vectors import steering_plan
from scalex.store import Store
from scalex.wording import doubles_article, tidy
from scalex.wording import fill as filled

__all__ = ["Edit", "Scenes"]

Edit: TypeAlias = Literal["steering", "words"]
"""How a semantic is put into a picture: by a direction at the probe, or by saying it in the prompt."""

_WITHOUT, _WITH = "without", "with"  # names of the two ends of a semantic among prompts
_SHUFFLES = 0  # the seed of the shuffled channels


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
    vector = shuffled_channels(direction, channels, np.random.default_rng(_SHUFFLES))
    return Direction(vector, replace(direction.of, name=f"{direction.name}, shuffled", origin="shuffled"))
