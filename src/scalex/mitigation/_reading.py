"""What pictures show, by the picture reading alone: which value, and whether they are still their concept's.

Users have no exact readout. A concept's two variants teach a shrunk linear discriminant that tells their values (as
`rates` does), and the variants of all concepts are the classes of which the nearest names a picture's concept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from scalex import directions, stats
from scalex.capture import Plan, Progress, Sample, Steer
from scalex.drawings import Drawings
from scalex.engine import Fill
from scalex.jobs import Job
from scalex.models import Model
from scalex.prompts import build_prompts
from scalex.records import Prompt
from scalex.store import Store

__all__ = ["PictureReader", "prompts_of", "reader_of"]

_FAR = 1.5  # times as far from a variant's mean as all but a hundredth of its own pictures


@dataclass(frozen=True, eq=False)
class PictureReader:
    """Reads pictures of some concepts.

    Attributes:
        variants: by concept the latents of both variants. plain: those of the concept as it is.
        seeds: of both. drawings: where what is read under edits is kept.
    """

    model: Model
    plan: Plan
    seeds: tuple[int, ...]
    variants: Mapping[str, Float[np.ndarray, "2 templates seeds width"]]
    plain: Mapping[str, Float[np.ndarray, "templates seeds width"]]
    drawings: Drawings = field(default_factory=Drawings)

    def read(self, samples: Sequence[Sample], steer: Steer | None) -> Float[np.ndarray, "n width"]:
        """The latents of samples, in their order."""
        return self.drawings.latents(self.model, samples, self.plan, steer)[:, -1].astype(np.float64)

    def rate(
        self, concept: str, latents: Float[np.ndarray, "templates seeds width"], up: bool | None = None
    ) -> tuple[float, float]:
        """The share of the second value in pictures of the reader's own seeds, by classifiers that never saw the seed;
        and how much of it hangs on where the line is drawn.

        Steering may leave a picture midway. So one counts as turned (up is to the second value) only where it lies
        beyond nine tenths of the variant that it comes from; what that misses of the other variant is made up for
        (Rogan and Gladen 1978). None counts from the middle. The doubt is the difference between the shares beyond a
        quarter and beyond three quarters of the way between the variants, made up for alike.
        """
        own, first, second = (self._scores(concept, one) for one in (latents, *self.variants[concept]))
        low, high = float(first.mean()), float(second.mean())
        cut = 0.0 if up is None else max(0.0, _edge(first)) if up else min(0.0, -_edge(-second))
        ends = [_share_beyond(low + part * (high - low), own, first, second) for part in (0.25, 0.75)]
        return _share_beyond(cut, own, first, second), abs(ends[0] - ends[1])

    def _scores(
        self, concept: str, latents: Float[np.ndarray, "templates seeds width"]
    ) -> Float[np.ndarray, "templates seeds"]:
        """Above 0 where a picture looks more like the second value."""
        first, second = directions.discriminants(latents[None], self.variants[concept], "lda")[:, 0]
        return np.asarray(second - first)

    def fresh(self, concept: str, latents: Float[np.ndarray, "n width"]) -> Int[np.ndarray, "n"]:
        """The values that pictures of other seeds show."""
        first, second = self.variants[concept]
        across = directions.lda_directions(first, second).mean(0)
        middle = self.variants[concept].mean((0, 1, 2))
        return np.asarray((latents - middle) @ across > 0, dtype=np.int64)

    def right(self, concept: str) -> tuple[float, float]:
        """How many of the first variant's and of the second's own pictures are told right, seeds held out."""
        first, second = (self._scores(concept, one) for one in self.variants[concept])
        return float((first <= 0).mean()), float((second > 0).mean())

    def is_concept(self, concept: str, latents: Float[np.ndarray, "n width"]) -> Bool[np.ndarray, "n"]:
        """Whether pictures are nearer to a variant of the concept than to those of any other, and about as near to it
        as its own are: what steering has destroyed is like nothing."""
        classes = self._classes
        squares = ((latents**2).sum(1)[:, None] - 2 * latents @ classes.T) + (classes**2).sum(1)
        nearest, place = squares.argmin(1), list(self.variants).index(concept)
        near = np.sqrt(np.maximum(squares.min(1), 0)) <= self._reach[concept]
        return np.asarray((nearest // 2 == place) & near)

    @cached_property
    def _classes(self) -> Float[np.ndarray, "classes width"]:
        return np.concatenate([values.mean((1, 2)) for values in self.variants.values()])

    @cached_property
    def _reach(self) -> dict[str, float]:
        """How far from the mean of a variant a picture may be at most, by concept."""
        far = {c: np.linalg.norm(x - x.mean((1, 2), keepdims=True), axis=-1) for c, x in self.variants.items()}
        return {concept: _FAR * float(np.quantile(own, 0.99)) for concept, own in far.items()}

    def distance(self, concept: str) -> float:
        """Between the variants' means: the unit of change."""
        first, second = self.variants[concept].mean((1, 2))
        return float(np.linalg.norm(second - first))


def _edge(scores: Float[np.ndarray, "templates seeds"]) -> float:
    return float(np.quantile(scores, 0.9))


def _share_beyond(line: float, own: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Corrected by the shares of both variants beyond it; 0.5 where it does not tell them apart."""
    seen, false, hit = (float((scores > line).mean()) for scores in (own, first, second))
    found = stats.rogan_gladen(seen, hit, 1 - false)
    return found if np.isfinite(found) else 0.5


def prompts_of(job: Job, attribute: str, pair: tuple[str, str], concepts: Sequence[str]) -> tuple[Prompt, ...]:
    """The neutral prompts of concepts, and their two variants."""
    chosen = set(concepts)
    return tuple(
        p
        for p in build_prompts(job.spec)
        if p.concept in chosen and (not p.attribute or (p.attribute == attribute and p.value in pair))
    )


def reader_of(
    job: Job,
    store: Store,
    attribute: str,
    pair: tuple[str, str],
    concepts: Sequence[str],
    seeds: Sequence[int],
    progress: Progress | None,
    engine: Fill,
    drawings: Drawings | None,
) -> PictureReader:
    """A reader of concepts; what the store lacks is captured."""
    prompts = prompts_of(job, attribute, pair, concepts)
    plan = replace(job.plan, readings=("picture",), keep={"picture": "last"}, moments=0)
    engine(store, job.model, prompts, seeds, plan, progress)
    latents = store.read(plan.recipes(job.model)["picture"], prompts, seeds)
    return PictureReader(
        job.model,
        plan,
        tuple(seeds),
        {c: directions.variants_of(latents, c, attribute, pair) for c in concepts},
        {c: latents.of(c).astype(np.float64) for c in concepts},
        drawings or Drawings(),
    )
