"""Images in words: which of a run's prompts makes pictures like this one, or that none does. Pure numbers, no model.

Cosines are taken in the metric of the names' own covariance, and an image is called by the nearest name where that is
nearer than directions that mean nothing come to any (as `naming` does it for directions).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from scalex.analyses._metric import Metric, gaussian, metric_of
from scalex.errors import ScalexError
from scalex.records import Latents, Role, Rules

__all__ = ["Names", "rank_of"]

_FEWEST = 12  # names from which chance is told: in few dimensions, random directions are near one of few names
_NAMING: tuple[Role, ...] = ("concept", "word", "identity")


@dataclass(frozen=True)
class Names:
    """The neutral prompts of a run as points to compare images with.

    Everything is centred seed by seed: the mean of all prompts read with a seed's noise is taken from what was read
    with the same noise. So an image may be read with some of the seeds only, and what noise and pictures have in common
    names nothing.

    Attributes:
        names: concepts, words and identities, each once. points: z of each, over templates and seeds.
        centre: the mean of all names, by seed. metric: of the points.
    """

    names: tuple[str, ...]
    points: Float[np.ndarray, "names width"]
    centre: Float[np.ndarray, "seeds width"]
    metric: Metric

    @staticmethod
    def of(latents: Latents) -> Names:
        """The names that a run has.

        Raises:
            ScalexError: fewer than two: there is nothing to choose from.
        """
        found: dict[str, Float[np.ndarray, "seeds width"]] = {}
        for role in _NAMING:
            for name in latents.named(role):
                if name not in found:
                    found[name] = latents.of(name, role=role).astype(np.float64).mean(0)
        if len(found) < 2:
            way_out = "Audit two concepts or more, or add `words`"
            raise ScalexError(f"the run has {len(found)} prompt to name images with", way_out)
        by_seed = np.stack(list(found.values()))
        centre = by_seed.mean(0)
        points = np.asarray((by_seed - centre).mean(1))
        return Names(tuple(found), points, np.asarray(centre), metric_of(points))

    def place(self, images: Float[np.ndarray, "*n imageseeds width"]) -> Float[np.ndarray, "*n width"]:
        """The point of each image; its seeds are the first of the run's."""
        return np.asarray((images - self.centre[: images.shape[-2]]).mean(-2))

    def cosines(self, images: Float[np.ndarray, "n imageseeds width"]) -> Float[np.ndarray, "n names"]:
        """How much each image goes with each name: cosines of what is left after centring. NaN where nothing is."""
        if not len(self.metric.gains):
            return np.full((len(images), len(self.names)), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            a, b = (self.metric.place(x) / self.metric.lengths(x)[:, None] for x in (self.place(images), self.points))
        return np.asarray(a @ b.T)

    def needed(self, rules: Rules) -> float:
        """The cosine that a name must reach: what the best name of a random direction seldom does.

        Half as seldom as a finding may be wrong, since a wrong name misleads more than none does. With fewer than 12
        names it is -inf: every image is called by the nearest.
        """
        if len(self.names) < _FEWEST or not len(self.metric.gains):
            return -np.inf
        placed = self.metric.place(self.points)
        random = gaussian(placed, rules.resamples, np.random.default_rng(rules.seed))
        best = (random @ (placed / np.linalg.norm(placed, axis=1, keepdims=True)).T).max(1)
        return float(np.quantile(best, (1 + rules.level) / 2))


def rank_of(cosines: Float[np.ndarray, "n names"], own: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """The rank of each image's own name, 1 for the nearest; names at the same cosine come before it."""
    mine = np.take_along_axis(cosines, own[:, None], axis=1)
    return np.asarray((~(cosines < mine)).sum(1))
