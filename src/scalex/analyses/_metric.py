"""The metric of a vocabulary: that of its own covariance, shrunk half way to a round one.

As in Friedman's regularised discriminants (1989, Journal of the American Statistical Association 84: 165-175). Words
differ along a few axes much more than along all others (person or thing, bright or dark), and in the plain cosine every
direction, random ones too, looks like some word that lies far out on one of these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

__all__ = ["FLAT", "Metric", "gaussian", "metric_of"]

FLAT = 1e-9  # of the largest spread, below which nothing differs


@dataclass(frozen=True)
class Metric:
    """A metric by its r coordinates.

    Attributes:
        axes: the directions in which the vocabulary differs, orthonormal. gains: what each is multiplied by; `outside`
            for all directions in which nothing of it differs.
    """

    axes: Float[np.ndarray, "r width"]
    gains: Float[np.ndarray, "r"]
    outside: float

    def place(self, vectors: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "n r"]:
        """Coordinates of vectors; what lies outside of them is not told."""
        return np.asarray(vectors @ self.axes.T * self.gains)

    def lengths(self, vectors: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "n"]:
        """Lengths of vectors, with what lies outside of the coordinates."""
        along = vectors @ self.axes.T
        beyond = np.clip((vectors**2).sum(1) - (along**2).sum(1), 0, None)
        return np.asarray(np.sqrt(((along * self.gains) ** 2).sum(1) + self.outside**2 * beyond))

    def units(self, vectors: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "n r"]:
        """Coordinates of vectors that are made one long. What no word reaches counts in the length."""
        return np.asarray(self.place(vectors) / np.maximum(self.lengths(vectors), np.finfo(float).tiny)[:, None])


def metric_of(centred: Float[np.ndarray, "words width"]) -> Metric:
    """The metric of points that are centred on their mean; without a coordinate where they are all the same."""
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    kept = spread > FLAT * spread[0]
    variances = spread[kept] ** 2 / len(centred)
    usual = float(variances.mean()) if kept.any() else 1.0
    return Metric(axes[kept], 1 / np.sqrt(variances + usual), 1 / usual**0.5)


def gaussian(
    points: Float[np.ndarray, "words r"], draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draws r"]:
    """Directions that mean nothing, one long: Gaussian, with the covariance of the vocabulary's own coordinates."""
    placed = rng.normal(size=(draws, points.shape[1])) * np.linalg.norm(points, axis=0)
    return np.asarray(placed / np.linalg.norm(placed, axis=1, keepdims=True))
