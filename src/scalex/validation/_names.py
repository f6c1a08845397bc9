"""Images in words: which of a run's prompts makes pictures like this one. Pure numbers, no model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from scalex.errors import ScalexError
from scalex.records import Latents, Role

__all__ = ["Names", "rank_of"]

_NAMING: tuple[Role, ...] = ("concept", "word", "identity")


@dataclass(frozen=True)
class Names:
    """The neutral prompts of a run as points to compare images with.

    Everything is centred seed by seed: the mean of all prompts read with a seed's noise is taken from what was read
    with the same noise. So an image may be read with some of the seeds only, and what noise and pictures have in common
    names nothing.

    Attributes:
        names: concepts, words and identities, each once. points: z of each, over templates and seeds.
        centre: the mean of all names, by seed.
    """

    names: tuple[str, ...]
    points: Float[np.ndarray, "names width"]
    centre: Float[np.ndarray, "seeds width"]

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
        return Names(tuple(found), np.asarray((by_seed - centre).mean(1)), np.asarray(centre))

    def place(self, images: Float[np.ndarray, "*n imageseeds width"]) -> Float[np.ndarray, "*n width"]:
        """The point of each image; its seeds are the first of the run's."""
        return np.asarray((images - self.centre[: images.shape[-2]]).mean(-2))

    def cosines(self, images: Float[np.ndarray, "n imageseeds width"]) -> Float[np.ndarray, "n names"]:
        """How much each image goes with each name: cosines of what is left after centring. NaN where nothing is."""
        with np.errstate(invalid="ignore"):
            a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (self.place(images), self.points))
        return np.asarray(a @ b.T)


def rank_of(cosines: Float[np.ndarray, "n names"], own: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """The rank of each image's own name, 1 for the nearest; names at the same cosine come before it."""
    mine = np.take_along_axis(cosines, own[:, None], axis=1)
    return np.asarray((~(cosines < mine)).sum(1))
