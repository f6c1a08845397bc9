"""A step in H-space regressed on directions, freed of noise: how far it goes along one, the others held fixed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from scalex import directions

__all__ = ["Fit", "cosine_scores", "fit"]

_LEFT = 0.05  # of a direction's squared length beside the others, below which it is all but one of theirs

Samples = Float[np.ndarray, "templates seeds width"]
Scores = Float[np.ndarray, "templates seeds"]


class Fit(NamedTuple):
    """A step regressed on a direction and on those beside it. K directions, the first is the one of interest.

    Attributes:
        pull: scores whose mean is the first coefficient and whose spread is its uncertainty.
        left: scores whose mean is the squared length of what the others leave of the first direction.
        coefficients: all of them. shape (K,)
    """

    pull: Scores
    left: Scores
    coefficients: Float[np.ndarray, "directions"]


def fit(step: Samples, along: Samples, beside: Sequence[Samples] = ()) -> Fit | None:
    """Regresses a step on directions, by inner products over different seeds, so that noise has no part in them.

    Returns:
        None where the direction is no longer than its noise, or the others leave hardly anything of it.
    """
    every = [along, *beside]
    grams = np.array([[directions.pseudo_products(u, v) for v in every] for u in every])
    products = np.array([directions.pseudo_products(step, u) for u in every])
    gram = grams.mean((2, 3))
    if gram[0, 0] <= 1e-12 * max(float((along**2).sum(-1).mean()), np.finfo(float).tiny):
        return None
    inverse = np.linalg.pinv(gram, hermitian=True)
    left = 1 / inverse[0, 0] if inverse[0, 0] > 0 else 0.0
    if left < _LEFT * gram[0, 0] or np.linalg.matrix_rank(gram, hermitian=True) < len(every):
        return None
    b = inverse @ products.mean((1, 2))
    scores = b[0] + np.einsum("u,uts->ts", inverse[0], products - np.einsum("uvts,v->uts", grams, b))
    own = inverse[0] * left  # the first direction less its part along the others, in terms of all
    return Fit(scores, np.einsum("u,uvts,v->ts", own, grams, own), b)


def cosine_scores(step: Samples, fitted: Fit) -> Scores:
    """Scores whose mean is the cosine between a step and what is left of its direction, both without noise.

    Returns:
        Scores, which may exceed 1 by chance; NaN where the step is no longer than its noise.
    """
    own = directions.pseudo_products(step, step)
    if own.mean() <= 0:
        return np.full(own.shape, math.nan)
    ratio = math.sqrt(fitted.left.mean() / own.mean())
    relative = fitted.left / fitted.left.mean() - own / own.mean()
    return np.asarray(ratio * (fitted.pull + fitted.pull.mean() / 2 * relative))
